"""The command ``privoxel prepare``: bad scans, settings, resuming, labels; whole preparations are slow."""

import importlib.metadata
import json
import re

import nibabel as nib
import numpy as np
import pytest

from privoxel.cohort.base import Grid
from privoxel.cohort.bids import load_cohort
from privoxel.executor import Finished
from privoxel.prepare import settings as prepare_settings
from privoxel.prepare.geometry import distances, lattice
from privoxel.prepare.outputs import names_of
from privoxel.prepare.quality import dice
from privoxel.prepare.template import load_template
from privoxel.prepare_cli import spread
from privoxel.store import write_json
from tests.heads import MOVE, head, write_head
from tests.niftis import image_path, write_image, write_lines
from tests.recipes.commands import call

BOX = np.diag([12.0, 12.0, 12.0, 1.0])
MNI = "space-MNI152NLin2009aSym_res-2_desc-brain"


def write_people(raw, *participants):
    rows = [f"sub-{p}\t{50 + k}\tF" for k, p in enumerate(participants)]
    write_lines(raw / "participants.tsv", "participant_id\tage\tsex", *rows)


@pytest.fixture
def bad(tmp_path):
    """A dataset of one scan cut short and one that is constant."""
    raw = tmp_path / "raw"
    write_people(raw, "01", "02")
    image_path(raw, "01").parent.mkdir(parents=True)
    image_path(raw, "01").write_bytes(b"no image")
    write_image(image_path(raw, "02"), np.ones((14, 16, 18)), BOX)
    return raw


def test_bad_scans_are_named_with_what_to_do_and_nothing_is_written_of_them(
    bad, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    assert call(monkeypatch, "prepare", bad, out, "participant", "--jobs", 1, "-q") == 2
    said = capsys.readouterr().out
    assert "0 scans prepared, 0 kept from before, 2 not prepared." in said
    assert "sub-01/anat/sub-01_T1w.nii.gz: cannot be read" in said
    assert "sub-02/anat/sub-02_T1w.nii.gz: is constant. Check that the file holds a brain" in said
    assert not list(out.glob("sub-*"))
    page = (out / "prepare.html").read_text()
    assert "0 prepared, 0 to look at, 2 not prepared." in page
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "privoxel"
    assert description["DatasetLinks"] == {"raw": "../raw"}


def test_the_group_level_tells_of_failures_until_they_are_mended_or_gone(bad, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    call(monkeypatch, "prepare", bad, out, "participant", "--jobs", 1, "-q")
    assert call(monkeypatch, "prepare", bad, out, "group", "--json") == 2
    record = json.loads(capsys.readouterr().out.split("prepare.html\n")[-1])
    assert [one["scan"] for one in record["not_prepared"]] == [
        f"sub-{p}/anat/sub-{p}_T1w.nii.gz" for p in ("01", "02")
    ]
    image_path(bad, "01").unlink()
    image_path(bad, "02").unlink()
    assert call(monkeypatch, "prepare", bad, out, "group", "-q") == 0


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(bad, tmp_path, monkeypatch, capsys):
    assert call(monkeypatch, "prepare", bad, tmp_path / "out", "participant", "--dry-run", "--json") == 2
    record = json.loads(capsys.readouterr().out)
    assert record["to_prepare"] == ["sub-02"]
    assert "cannot be read" in record["not_usable"][0]
    assert not (tmp_path / "out").exists()


def test_other_settings_in_the_same_folder_are_refused_with_the_difference(
    bad, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    call(monkeypatch, "prepare", bad, out, "participant", "--jobs", 1, "-q")
    assert call(monkeypatch, "prepare", bad, out, "participant", "--resolution", 3, "--seed", 5, "-q") == 2
    said = capsys.readouterr().err
    assert "voxel_mm: the folder has 2.0, now 3.0" in said
    assert "seed: the folder has 0, now 5" in said


def test_a_folder_with_other_files_and_a_place_in_the_raw_data_are_refused(
    bad, tmp_path, monkeypatch, capsys
):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    assert call(monkeypatch, "prepare", bad, tmp_path / "mine", "participant", "-q") == 2
    assert "with other files" in capsys.readouterr().err
    assert call(monkeypatch, "prepare", bad, bad / "out", "participant", "-q") == 2
    assert "outside the raw dataset" in capsys.readouterr().err


def test_a_missing_extra_is_explained(bad, tmp_path, monkeypatch, capsys):
    def version(name):
        if name == "deepbet":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(prepare_settings, "version", version)
    assert call(monkeypatch, "prepare", bad, tmp_path / "out", "participant", "-q") == 2
    assert "got no deepbet. Install the extra: pip install 'privoxel[preproc]'" in capsys.readouterr().err


def test_labels_may_be_given_one_after_the_other_as_in_bids_apps(bad, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    code = call(
        monkeypatch, "prepare", bad, out, "participant", "--participant-label", "01", "sub-02", "--dry-run"
    )
    assert code == 2
    assert "sub-02" in capsys.readouterr().out
    assert call(monkeypatch, "prepare", bad, out, "participant", "--participant_label", "07", "-q") == 2
    assert "got 07. Present are 01, 02" in capsys.readouterr().err
    assert spread(["--participant-label"]) == ["--participant-label"]
    assert spread(["a", "--session-label", "1", "2", "--jobs", "2"]) == [
        *("a", "--session-label", "1", "--session-label", "2", "--jobs", "2")
    ]


def test_an_interrupted_command_exits_3_and_says_how_to_go_on(bad, tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("privoxel.recipes.preparing.run_preparation", interrupted)
    assert call(monkeypatch, "prepare", bad, tmp_path / "out", "participant", "-q") == 3
    assert "Finished work is kept" in capsys.readouterr().err


GOOD = {
    "correlation": 0.6,
    "overlap": 0.95,
    "volume_ml": 1600.0,
    "least_stretch": 0.95,
    "most_stretch": 1.05,
    "at_edge": 0.0,
}


def put_finished(raw, out, stem, **scores):
    """Leave what a finished scan leaves, with a byte for each of its images."""
    described = prepare_settings.PrepareSettings().described()
    names = names_of(stem, 2.0)
    for path in names:
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_bytes(b"x")
    participant = stem.split("_")[0].removeprefix("sub-")
    record = {
        "stem": stem,
        "participant": participant,
        "place": image_path(raw, participant).relative_to(raw).as_posix(),
        "scores": GOOD | scores,
        "seconds": {"all": 1.0},
        "content": "",
        "files": {path.as_posix(): 1 for path in names},
    }
    write_json(out / ".privoxel" / "settings.json", described)
    Finished(out / ".privoxel" / "finished", prepare_settings.digest(described)).put(stem, record)


def test_an_odd_scan_comes_first_on_the_page_and_makes_the_exit_code_1(bad, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    put_finished(bad, out, "sub-01")
    put_finished(bad, out, "sub-02", correlation=0.2)
    assert call(monkeypatch, "prepare", bad, out, "group") == 1
    assert "sub-02: correlation 0.2, expected 0.4 to 1" in capsys.readouterr().out
    page = (out / "prepare.html").read_text()
    assert "2 prepared, 1 to look at, 0 not prepared." in page
    assert page.index('<article class="scan" id="sub-02"') < page.index('<article class="scan" id="sub-01"')
    assert (out / "participants.tsv").read_text().split() == [
        *("participant_id", "age", "sex", "sub-01", "50", "F", "sub-02", "51", "F")
    ]


def test_a_scan_whose_files_are_gone_is_not_finished(bad, tmp_path, monkeypatch):
    out = tmp_path / "out"
    put_finished(bad, out, "sub-01")
    put_finished(bad, out, "sub-02", overlap=0.1)
    (out / names_of("sub-02", 2.0).mask).unlink()
    assert call(monkeypatch, "prepare", bad, out, "group") == 0
    assert "1 prepared, 0 to look at, 0 not prepared." in (out / "prepare.html").read_text()
    assert "sub-02" not in (out / "participants.tsv").read_text()


def test_a_page_of_nothing_and_settings_that_cannot_be_read_are_explained(bad, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert call(monkeypatch, "prepare", bad, out, "group") == 2
    assert "Prepare participants first" in capsys.readouterr().err
    put_finished(bad, out, "sub-01")
    (out / ".privoxel" / "settings.json").write_text("{")
    assert call(monkeypatch, "prepare", bad, out, "participant", "-q") == 2
    assert "needs its .privoxel/settings.json" in capsys.readouterr().err


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Two heads of one participant each, and a bad scan, prepared by the command."""
    folder = tmp_path_factory.mktemp("prepare")
    raw, out = folder / "raw", folder / "out"
    write_people(raw, "01", "02", "03")
    write_head(image_path(raw, "01"), head(1)[0], "PSR")
    write_head(image_path(raw, "02", session="a"), head(2)[0], "LIP")
    image_path(raw, "03").parent.mkdir(parents=True)
    image_path(raw, "03").write_bytes(b"no image")
    with pytest.MonkeyPatch.context() as patch:
        code = call(patch, "prepare", raw, out, "participant", "--jobs", 2, "-q")
    return raw, out, code


@pytest.mark.slow
def test_two_heads_become_a_cohort_beside_a_bad_one(prepared):
    _, out, code = prepared
    assert code == 2
    cohort = load_cohort(out, grid=Grid.mni(2))
    assert [str(scan) for scan in cohort.covariates.scans] == ["sub-01", "sub-02_ses-a"]
    assert cohort.covariates.age.tolist() == [50, 51]
    stored = nib.load(out / f"sub-01/anat/sub-01_{MNI}_T1w.nii.gz")
    np.testing.assert_allclose(stored.affine, Grid.mni(2).affine)
    assert stored.header["sform_code"] == stored.header["qform_code"] == 4


@pytest.mark.slow
def test_brain_and_landmarks_are_where_they_were_put(prepared):
    raw, out, _ = prepared
    template = load_template()
    stored = nib.load(out / "sub-01/anat/sub-01_desc-brain_mask.nii.gz")
    assert stored.shape == nib.load(image_path(raw, "01")).shape
    mask = nib.as_closest_canonical(stored).get_fdata() > 0
    assert dice(mask, head(1)[1]) > 0.93
    text = (out / "sub-01/anat/sub-01_from-T1w_to-MNI152NLin2009aSym_mode-image_xfm.txt").read_text()
    numbers = np.array(re.search(r"Parameters: (.*)", text)[1].split(), dtype=float)
    lps = np.vstack([np.c_[numbers[:9].reshape(3, 3), numbers[9:]], [0, 0, 0, 1]])
    to_scan = np.diag([-1, -1, 1, 1]) @ lps @ np.diag([-1, -1, 1, 1])
    points = lattice(template.mask, template.grid.affine, 10.0)
    assert distances(MOVE @ to_scan, np.eye(4), points).mean < 2.5


@pytest.mark.slow
def test_sidecars_and_page_say_what_was_done(prepared):
    _, out, _ = prepared
    sidecar = json.loads((out / f"sub-02/ses-a/anat/sub-02_ses-a_{MNI}_T1w.json").read_text())
    assert sidecar["SkullStripped"] is True
    assert sidecar["Sources"] == ["bids:raw:sub-02/ses-a/anat/sub-02_ses-a_T1w.nii.gz"]
    assert sidecar["Privoxel"]["scores"]["overlap"] > 0.9
    page = (out / "prepare.html").read_text()
    pictures = re.findall(r'<img src="([^"]+)"', page)
    assert len(pictures) == 4
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in pictures)


@pytest.mark.slow
def test_finished_scans_are_kept_and_what_changed_is_done_again_bit_for_bit(prepared, monkeypatch, capsys):
    raw, out, _ = prepared
    image = out / f"sub-01/anat/sub-01_{MNI}_T1w.nii.gz"
    before = image.read_bytes()
    code = call(monkeypatch, "prepare", raw, out, "participant", "--participant-label", "01", "02", "--json")
    record = json.loads(capsys.readouterr().out)
    assert (record["prepared"], record["kept"]) == ([], ["sub-01", "sub-02_ses-a"])
    assert code in {0, 1}
    image.unlink()
    call(monkeypatch, "prepare", raw, out, "participant", "--participant-label", "01", "--json")
    assert json.loads(capsys.readouterr().out)["prepared"] == ["sub-01"]
    assert image.read_bytes() == before
