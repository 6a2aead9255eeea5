"""Damaged and hostile tables, links and images: each refused in words, none a crash, memory bounded."""

import gzip
import os
import resource
import struct
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privoxel.cohort.bids import load_cohort, read_people
from privoxel.cohort.checks import check_cohort
from privoxel.cohort.features import load_features
from privoxel.cohort.listed import listed_column, read_listed
from privoxel.cohort.nifti import header_fault, read_volume
from privoxel.cohort.predictions import load_predictions
from privoxel.cohort.preprocess import VolumeError
from privoxel.cohort.tables import Found, read_table, table_entries
from privoxel.errors import CohortError, PrivoxelError, Problem, ProblemsError
from tests.hostile import damaged_files, damaged_text, good_image
from tests.niftis import AFFINE, GRID, blob, image_path, write_bids, write_image, write_lines

MNI = "_space-MNI152NLin2009aSym_desc-brain"
PEOPLE = (
    "participant_id\tage\tsex\tsite\tmember\n"
    "sub-01\t61.5\tF\tA\t1\nsub-02\t62\tM\tB\t0\nsub-03\tn/a\t\tB\tn/a\n"
)
SCANS = "path,age,sex\nsub-01_T1w.nii.gz,61,F\n../x.nii.gz,62,M\n/etc/x.nii.gz,63,M\n"
ANSWERS = "participant_id\tage\tpredicted_age\tmember\n1\t60\t61\t1\n2\t61\t66\t0\n"

READERS = {
    "participants.tsv": (PEOPLE, lambda path: read_people(path, {}, Found())),
    "scans.csv": (SCANS, lambda path: table_entries(path, where={}, root=None)),
    "predictions.tsv": (ANSWERS, load_predictions),
    "member.tsv": (PEOPLE, lambda path: listed_column(path, needs_member=True)),
    "ids.txt": ("sub-01\nsub-02\n", read_listed),
    "ids.json": ('["sub-01", {"participant_id": "02"}]', read_listed),
}


def refusal_of(path):
    """Return what a single image is refused for, "" where it is not."""
    fault = header_fault(path, GRID)
    if fault is not None:
        return str(fault)
    try:
        read_volume(path, GRID, "all")
    except VolumeError as error:
        return str(error)
    return ""


def message_of(read, path):
    """Return what a reader says against a file, "" where it says nothing; only our own errors are caught."""
    try:
        read(path)
    except PrivoxelError as error:
        return str(error)
    return ""


def fuzz_images(folder, count, seed):
    used = 0
    for path in damaged_files(folder, count, seed):
        if not refusal_of(path):
            used += 1
            assert np.isfinite(read_volume(path, GRID, "all")).all()
    return used


def fuzz_tables(folder, count, seed):
    rng = np.random.default_rng(seed)
    for k in range(count):
        name = list(READERS)[k % len(READERS)]
        text, read = READERS[name]
        path = folder / name
        path.write_bytes(damaged_text(text, rng))
        assert message_of(read, path).replace("\n", "").isprintable()


def test_damaged_images_are_refused_or_read_and_nothing_else(tmp_path):
    assert 0 < fuzz_images(tmp_path, 200, seed=1) < 200


def test_damaged_tables_and_lists_raise_what_privoxel_explains(tmp_path):
    fuzz_tables(tmp_path, 300, seed=2)


@pytest.mark.slow
def test_a_long_fuzz_run_stays_in_bounds_of_memory(tmp_path):
    code = (
        "import resource, sys, warnings; from pathlib import Path; warnings.simplefilter('error');"
        "from tests.unit import test_hostile_input as t;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "t.fuzz_images(Path(sys.argv[1]), 20_000, seed=3); t.fuzz_tables(Path(sys.argv[1]), 30_000, seed=4);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    run = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert int(run.stdout) < 300_000  # kB


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dims=st.lists(st.integers(-32768, 32767), min_size=8, max_size=8),
    datatype=st.sampled_from([2, 4, 8, 16, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2304]),
    packed=st.booleans(),
)
def test_whatever_size_a_header_claims_no_memory_is_taken_for_it(tmp_path, dims, datatype, packed):
    content = bytearray(good_image())
    struct.pack_into("<8h", content, 40, *dims)
    struct.pack_into("<2h", content, 70, datatype, 0)
    path = tmp_path / ("a.nii.gz" if packed else "a.nii")
    path.write_bytes(gzip.compress(bytes(content), 1) if packed else bytes(content))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refusal_of(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cells=st.lists(st.lists(st.text(max_size=6), min_size=1, max_size=5), max_size=5),
    separator=st.sampled_from(["\t", ",", ";"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    bom=st.booleans(),
)
def test_any_text_is_a_table_or_explained(tmp_path, cells, separator, end, bom):
    text = end.join(separator.join(row) for row in [["participant_id", "age", "path"], *cells])
    for name, (_, read) in READERS.items():
        path = tmp_path / name
        path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + text.encode("utf-8", "surrogatepass"))
        assert message_of(read, path).replace("\n", "").isprintable()


@pytest.mark.parametrize("age", ["89+", ">=89", "0064Y", "61 years", "61,5", "23741", "-3", "inf", "6_1", ""])
def test_an_age_that_cannot_be_used_is_told_and_never_shown(tmp_path, age):
    folder = write_bids(tmp_path, ["01", "02", "03"])
    write_lines(folder / "participants.tsv", "participant_id\tage", "01\t41", "02\t42", f"03\t{age}")
    with pytest.raises(ProblemsError) as raised:
        load_cohort(folder, grid=GRID)
    assert [problem.participant for problem in raised.value.problems] == ["03"]
    assert raised.value.problems[0].what.startswith("has ")
    assert not age or age not in raised.value.problems[0].what.replace("89+", "")


@pytest.mark.parametrize(("factor", "unit"), [(365.25, "days"), (12, "months")])
def test_a_column_of_ages_in_another_unit_is_recognised(tmp_path, factor, unit):
    folder = write_bids(tmp_path, ["01", "02"])
    write_lines(
        folder / "participants.tsv", "participant_id\tage", f"01\t{41 * factor}", f"02\t{42 * factor}"
    )
    with pytest.raises(ProblemsError, match=rf"as ages in {unit} are\. Divide it by"):
        load_cohort(folder, grid=GRID)


def test_a_path_that_leads_out_needs_a_root(tmp_path):
    write_image(tmp_path / "secret" / "sub-01_T1w.nii.gz", blob(1))
    table = write_lines(tmp_path / "study" / "t.csv", "path,age", "../secret/sub-01_T1w.nii.gz,60")
    with pytest.raises(ProblemsError, match=r"lies outside the table's folder\. Name the folder .* --root"):
        load_cohort(table, grid=GRID)
    assert len(load_cohort(table, grid=GRID, root=tmp_path / "secret")) == 1


def test_a_link_out_of_a_bids_folder_needs_a_root_and_annexed_files_do_not(tmp_path):
    folder = write_bids(tmp_path / "study", ["01", "02"])
    for number, store in (
        ("01", tmp_path / "elsewhere"),
        ("02", tmp_path / ".git" / "annex" / "objects" / "x"),
    ):
        image = image_path(folder, number, entities=MNI)
        store.mkdir(parents=True)
        image.rename(store / image.name)
        image.symlink_to(store / image.name)
    with pytest.raises(ProblemsError, match=r"\(1 found\)[\s\S]*leads out of the dataset"):
        load_cohort(folder, grid=GRID)
    assert len(load_cohort(folder, grid=GRID, root=tmp_path / "elsewhere")) == 2


@pytest.mark.parametrize("person", ["../../etc/7", "..", "/etc/7", "a\\..\\b"])
def test_ids_that_lead_to_another_folder_are_refused_by_every_table(tmp_path, person):
    write_image(tmp_path / "a.nii.gz", blob(0))
    columns = "participant_id,age,member,predicted_age,gm,path"
    table = write_lines(tmp_path / "t.csv", columns, f"{person},60,1,61,2,a.nii.gz", "b,60,0,61,2,a.nii.gz")
    for read in (load_predictions, load_features, lambda path: load_cohort(path, grid=GRID)):
        with pytest.raises(ProblemsError, match=r"line 2.*is a path to another folder"):
            read(table)


def test_ids_and_sites_that_would_steer_a_terminal_are_read_as_their_escapes(tmp_path):
    write_image(tmp_path / "a.nii.gz", blob(0))
    columns = "participant_id,age,member,predicted_age,gm,path,site"
    lines = ("sub-\x1b[2Jx,60,1,61,2,a.nii.gz,\x1b[31m", "b,60,0,61,2,b.nii.gz,B")
    table = write_lines(tmp_path / "t.csv", columns, *lines)
    write_image(tmp_path / "b.nii.gz", blob(1))
    read = (
        load_predictions(table).covariates,
        load_features(table).cohort.covariates,
        load_cohort(table, grid=GRID).covariates,
    )
    for people in read:
        assert people.participants == ("\\x1b[2Jx", "b")
        assert people.site.tolist() == ["\\x1b[31m", "B"]
    assert set(read_listed(write_lines(tmp_path / "ids.txt", "\x1b[2Jx")).lines) == {"\\x1b[2Jx"}


def test_links_that_lead_in_a_circle_are_told(tmp_path):
    folder = write_bids(tmp_path / "study", ["01", "02"])
    image = image_path(folder, "02", entities=MNI)
    image.unlink()
    image.symlink_to(image)
    (folder / "sub-01" / "loop").symlink_to(folder)
    with pytest.raises(ProblemsError, match=r"\(1 found\)[\s\S]*leads in a circle"):
        load_cohort(folder, grid=GRID)
    table = write_lines(folder / "t.csv", "path,age", f"{image.relative_to(folder)},60")
    with pytest.raises(ProblemsError, match="cannot be one"):
        load_cohort(table, grid=GRID)


def test_a_bomb_is_not_unpacked(tmp_path):
    header = bytearray(good_image()[:352])
    struct.pack_into("<4h", header, 40, 3, 640, 640, 640)
    path = tmp_path / "bomb.nii.gz"
    with gzip.open(path, "wb", compresslevel=9) as stream:
        stream.write(bytes(header))
        for _ in range(16):
            stream.write(bytes(2**20))
    assert "is cut short" in refusal_of(path) or "which no scan does" in refusal_of(path)


def test_a_bomb_of_full_length_is_told_by_its_ratio(tmp_path):
    header = bytearray(good_image()[:352])
    struct.pack_into("<4h", header, 40, 3, 640, 640, 640)
    path = tmp_path / "bomb.nii.gz"
    packed = gzip.compress(bytes(header))
    path.write_bytes(packed + bytes(2**20 + 2**15))  # 640³ × 4 bytes at a ratio near 1000
    assert "unpacks to 1.0 GB from 1.1 MB, which no scan does" in refusal_of(path)


@pytest.mark.parametrize(
    ("offset", "kind", "value", "message"),
    [
        (40, "4h", (3, 32767, 32767, 32767), "claims 32767×32767×32767 voxels"),
        (108, "f", (1e12,), "begin at an impossible place"),
        (108, "f", (float("nan"),), "begin at an impossible place"),
        (112, "2f", (1.0, float("inf")), "cannot be read (HeaderDataError)"),
        (256, "3f", (0.9, 0.9, 0.9), "has a qform that is no rotation"),
        (268, "f", (-50.0,), "sform and a qform that disagree by up to 20 mm"),
    ],
)
def test_a_header_that_cannot_be_true_is_refused_unread(tmp_path, offset, kind, value, message):
    content = bytearray(good_image())
    struct.pack_into(f"<{kind}", content, offset, *value)
    for path, packed in (
        (tmp_path / "a.nii", bytes(content)),
        (tmp_path / "a.nii.gz", gzip.compress(content)),
    ):
        path.write_bytes(packed)
        fault = header_fault(path, GRID)
        assert fault is not None
        assert message in str(fault)


@pytest.mark.parametrize("slope", [0.0, float("inf"), float("nan")])
def test_a_slope_that_scales_nothing_leaves_voxels_as_they_are(tmp_path, slope):
    content = bytearray(good_image())
    (tmp_path / "a.nii").write_bytes(content)
    struct.pack_into("<f", content, 112, slope)
    (tmp_path / "b.nii").write_bytes(content)
    plain, odd = (read_volume(tmp_path / name, GRID, "all") for name in ("a.nii", "b.nii"))
    np.testing.assert_array_equal(plain, odd)


def test_the_qform_of_the_scanner_beside_an_sform_in_mni_is_no_conflict(tmp_path):
    image = nib.Nifti1Image(blob(3), AFFINE)
    image.set_sform(AFFINE, code=4)
    image.set_qform(np.diag([1.0, 1.0, 1.0, 1.0]), code=1)
    nib.save(image, tmp_path / "a.nii")
    assert header_fault(tmp_path / "a.nii", GRID) is None


def test_swapped_bytes_are_read_as_what_they_are(tmp_path):
    image = nib.Nifti1Image(blob(3), AFFINE)
    nib.save(image, tmp_path / "little.nii")
    nib.save(nib.Nifti1Image(blob(3), AFFINE, image.header.as_byteswapped(">")), tmp_path / "big.nii")
    assert (tmp_path / "big.nii").read_bytes()[:4] == b"\x00\x00\x01\x5c"
    little, big = (read_volume(tmp_path / name, GRID, "all") for name in ("little.nii", "big.nii"))
    np.testing.assert_array_equal(little, big)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_no_numbers_are_counted(tmp_path, value):
    folder = write_bids(tmp_path, ["01", "02"])
    array = blob(1)
    array[3, 4, 5] = value
    write_image(image_path(folder, "02", entities=MNI), array)
    problems = check_cohort(load_cohort(folder, grid=GRID)).problems
    assert [str(problem.what) for problem in problems] == ["has 1 voxels that are not finite"]


def test_thousands_of_columns_are_read_without_being_held(tmp_path):
    header = "\t".join(["participant_id", "age", *(f"f{k}" for k in range(5000))])
    rows = ["\t".join([f"sub-{k}", "60", *["0.12345"] * 5000]) for k in range(20)]
    table = read_table(write_lines(tmp_path / "t.tsv", header, *rows), (), keep={"participant_id", "age"})
    assert len(table.columns) == 5002
    assert dict(table.rows[19].cells) == {"participant_id": "sub-19", "age": "60"}


@pytest.mark.parametrize(("size", "message"), [(2**33, "larger than 4 GiB"), (2**25, "a line of 16 MiB")])
def test_a_table_that_would_fill_the_memory_is_refused(tmp_path, size, message):
    with (tmp_path / "t.tsv").open("wb") as stream:
        stream.write(b"participant_id\tage\n")
        stream.truncate(size)
    with pytest.raises(ProblemsError, match=message):
        read_table(tmp_path / "t.tsv", ())


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "ids.txt")
    with pytest.raises(CohortError, match="is no file"):
        read_listed(tmp_path / "ids.txt")
    with pytest.raises(CohortError, match="is no file"):
        read_table(tmp_path / "ids.txt", ())


def test_messages_show_control_characters_instead_of_sending_them():
    assert (
        str(Problem("sub-\x1b[2J", "is\u202e odd", "Rename it")) == "sub-\\x1b[2J: is\\u202e odd. Rename it"
    )
