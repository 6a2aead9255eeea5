import csv
import hashlib
import json

import nibabel
import numpy as np
import pytest

from privoxel.cohort.base import Grid, ScanId
from privoxel.cohort.derivative import image_path, write_derivative
from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort
from privoxel.errors import CohortError, StoreError
from tests.conftest import make_cohort

CONFIG = SimulatorConfig(seed=7, resolution_mm=6.0, sessions=2)
FIRST = "sub-0007/ses-1/anat/sub-0007_ses-1_space-MNI152NLin2009aSym_res-6_desc-brain_T1w.nii.gz"


def digests(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def cohort():
    return simulate_cohort(CONFIG, [7, 2])


@pytest.fixture(scope="module")
def written(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("derivative") / "new"
    write_derivative(cohort, folder)
    return folder


def test_the_folder_holds_one_image_a_scan_and_four_descriptions(written):
    names = set(digests(written))
    assert FIRST in names
    assert sum(name.endswith(".nii.gz") for name in names) == 4
    assert {n for n in names if "/" not in n} == {
        "dataset_description.json",
        "participants.json",
        "participants.tsv",
        "space-MNI152NLin2009aSym_res-6_desc-brain_T1w.json",
    }


def test_images_carry_the_intensities_and_the_grid(cohort, written):
    image = nibabel.load(written / FIRST)
    np.testing.assert_allclose(image.affine, Grid.mni(6).affine)
    assert image.header["sform_code"] == image.header["qform_code"] == 4
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.get_data_dtype() == np.int16
    np.testing.assert_allclose(image.get_fdata(), cohort.source.intensity(0), atol=0.51)


def test_z_scoring_a_written_image_gives_the_cohort_s_volume(cohort, written):
    voxels = nibabel.load(written / FIRST).get_fdata()
    np.testing.assert_allclose((voxels - voxels.mean()) / voxels.std(), cohort.volume(0), atol=0.005)


def test_participants_are_listed_once_with_age_sex_and_site(cohort, written):
    with (written / "participants.tsv").open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [row["participant_id"] for row in rows] == ["sub-0007", "sub-0002"]
    assert [float(row["age"]) for row in rows] == cohort.covariates.age[::2].tolist()
    assert [row["sex"] for row in rows] == cohort.covariates.sex[::2].tolist()
    assert [row["site"] for row in rows] == cohort.covariates.site[::2].tolist()
    described = json.loads((written / "participants.json").read_text())
    assert list(described) == list(rows[0])


def test_the_description_says_simulated_derivative_of_privoxel(written):
    description = json.loads((written / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "privoxel"
    assert "no person was scanned" in description["GeneratedBy"][0]["Description"]
    sidecar = json.loads((written / "space-MNI152NLin2009aSym_res-6_desc-brain_T1w.json").read_text())
    assert sidecar["SkullStripped"] is True
    assert "6 mm" in sidecar["Resolution"]


def test_writing_again_gives_the_same_bytes(cohort, written, tmp_path):
    write_derivative(cohort, tmp_path / "again")
    assert digests(tmp_path / "again") == digests(written)


def test_progress_is_told_of_every_scan(cohort, tmp_path):
    steps = []
    write_derivative(cohort, tmp_path / "x", progress=steps.append)
    assert steps == [1, 1, 1, 1]


def test_a_folder_in_use_is_refused_and_left_alone(cohort, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match="new or empty folder"):
        write_derivative(cohort, tmp_path)
    with pytest.raises(StoreError, match="folder that privoxel simulated"):
        write_derivative(cohort, tmp_path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_overwriting_leaves_no_participant_of_the_earlier_cohort(cohort, tmp_path):
    write_derivative(cohort, tmp_path / "x")
    smaller = simulate_cohort(SimulatorConfig(seed=7, resolution_mm=6.0), [5])
    write_derivative(smaller, tmp_path / "x", overwrite=True)
    assert [p.name for p in sorted((tmp_path / "x").glob("sub-*"))] == ["sub-0005"]


def test_a_file_in_place_of_the_folder_is_refused(cohort, tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(StoreError, match="got the file"):
        write_derivative(cohort, tmp_path / "x")


def test_a_cohort_without_intensities_is_refused(tmp_path):
    with pytest.raises(CohortError, match="needs a cohort with intensities, got tiny"):
        write_derivative(make_cohort(3), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_resolution_with_a_fraction_has_no_point_in_its_label():
    assert "_res-2p5_" in image_path(ScanId("0001"), Grid.mni(2.5)).name
