"""Which raw scans are found, what their headers rule out, and how their derivatives are named."""

import nibabel as nib
import numpy as np
import pytest

from privoxel.cohort.nifti import read_head
from privoxel.errors import ConfigError, StoreError
from privoxel.prepare.dataset import check_output, find_scans
from privoxel.prepare.outputs import as_int16, names_of, sidecar_of
from tests.niftis import image_path, write_image

BOX = np.array([[12.0, 0, 0, -80], [0, 12, 0, -90], [0, 0, 12, -100], [0, 0, 0, 1]])


def scan(folder, participant, **where):
    rng = np.random.default_rng(len(participant))
    return write_image(image_path(folder, participant, **where), rng.uniform(0, 9, (14, 16, 18)), BOX)


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    scan(folder, "01", session="a")
    scan(folder, "01", session="b")
    scan(folder, "01", session="b", entities="_run-2")
    scan(folder, "02")
    scan(folder, "02", entities="_space-MNI152Lin_desc-brain")
    return folder


def stems(found):
    return [one.stem for one in found.scans]


def test_every_raw_scan_is_found_and_derivatives_among_them_are_not(raw):
    found = find_scans(raw)
    assert stems(found) == ["sub-01_ses-a", "sub-01_ses-b", "sub-01_ses-b_run-2", "sub-02"]
    assert found.problems == ()


def test_labels_choose_with_and_without_their_prefix(raw):
    assert stems(find_scans(raw, participants=["sub-02"])) == ["sub-02"]
    assert stems(find_scans(raw, participants=["01"], sessions=["ses-a"])) == ["sub-01_ses-a"]
    with pytest.raises(ConfigError, match=r"--participant-label needs .* got 09\. Present are 01, 02"):
        find_scans(raw, participants=["09"])


def test_a_bad_scan_is_named_and_the_others_stay(raw):
    image_path(raw, "01", session="a").write_bytes(b"no image")
    small = np.diag([1.0, 1.0, 1.0, 1.0])
    write_image(image_path(raw, "03"), np.ones((14, 16, 18)), small)
    found = find_scans(raw)
    assert stems(found) == ["sub-01_ses-b", "sub-01_ses-b_run-2", "sub-02"]
    assert [(p.participant, p.what) for p in found.problems] == [
        ("01", "cannot be read (BadGzipFile)"),
        ("03", "measures 14×16×18 mm, not 100 to 600 along each axis"),
    ]
    assert find_scans(raw, participants=["02"]).problems == ()


def test_forms_that_disagree_on_left_and_right_are_refused(raw):
    path = image_path(raw, "02")
    image = nib.load(path)
    mirrored = nib.Nifti1Image(image.get_fdata(), BOX)
    mirrored.set_sform(BOX, code=1)
    mirrored.set_qform(np.diag([-1.0, 1, 1, 1]) @ BOX, code=1)
    nib.save(mirrored, path)
    found = find_scans(raw, participants=["02"])
    assert [p.what for p in found.problems] == [
        "has an sform and a qform that disagree on which side is left"
    ]


def test_a_file_there_twice_is_left_out(raw):
    write_image(image_path(raw, "02").with_suffix("").with_suffix(".nii"), np.ones((14, 16, 18)), BOX)
    found = find_scans(raw, participants=["02"])
    assert found.scans == ()
    assert [p.what for p in found.problems] == ["is there as .nii and as .nii.gz"] * 2


def test_a_link_out_of_the_dataset_is_refused_unless_its_folder_is_named(raw, tmp_path):
    outside = scan(tmp_path / "elsewhere", "02")
    image = image_path(raw, "02")
    image.unlink()
    image.symlink_to(outside)
    found = find_scans(raw, participants=["02"])
    assert found.scans == ()
    (problem,) = found.problems
    assert problem.what == "is a link that leads out of the dataset"
    assert "--root" in problem.remedy
    assert stems(find_scans(raw, participants=["02"], root=tmp_path / "elsewhere")) == ["sub-02"]
    store = raw / "sourcedata" / outside.name
    store.parent.mkdir()
    outside.rename(store)
    image.unlink()
    image.symlink_to(store)
    assert stems(find_scans(raw, participants=["02"])) == ["sub-02"]


def test_a_folder_that_links_out_of_the_dataset_is_refused_too(raw, tmp_path):
    scan(tmp_path / "elsewhere", "03")
    (raw / "sub-03").symlink_to(tmp_path / "elsewhere" / "sub-03")
    assert [p.what for p in find_scans(raw, participants=["03"]).problems] == [
        "is a link that leads out of the dataset"
    ]


def test_a_link_in_a_circle_is_called_one(raw):
    image = image_path(raw, "02")
    image.unlink()
    image.symlink_to(image)
    (raw / "sub-04").symlink_to(raw / "sub-04")
    found = find_scans(raw, participants=["02"])
    assert [p.what for p in found.problems] == ["is a link that leads in a circle"]


def test_a_folder_without_raw_scans_is_explained(tmp_path):
    scan(tmp_path, "01", entities="_desc-preproc")
    with pytest.raises(ConfigError, match="Name the raw dataset"):
        find_scans(tmp_path)
    with pytest.raises(ConfigError, match="is not there"):
        find_scans(tmp_path / "absent")


def test_a_head_is_read_canonical_and_its_stored_affine_kept(tmp_path, rng):
    array = rng.integers(0, 99, (14, 16, 18)).astype(np.int16)
    turned = np.array([[0, 0, -12.0, 80], [12, 0, 0, -90], [0, 12, 0, -100], [0, 0, 0, 1]])
    path = write_image(tmp_path / "sub-01_T1w.nii.gz", array, turned)
    head, stored = read_head(path)
    expected = nib.as_closest_canonical(nib.load(path))
    np.testing.assert_array_equal(head.array, expected.get_fdata())
    np.testing.assert_allclose(head.affine, expected.affine)
    np.testing.assert_allclose(stored, turned)


@pytest.mark.parametrize("place", [".", "sub-01", "code/out"])
def test_the_derivative_stays_out_of_the_raw_dataset(raw, place):
    with pytest.raises(StoreError):
        check_output(raw, raw / place)


def test_the_derivative_may_lie_among_derivatives_or_elsewhere(raw):
    check_output(raw, raw / "derivatives" / "brains")
    check_output(raw, raw.parent / "brains")
    with pytest.raises(StoreError, match="holds the raw dataset"):
        check_output(raw, raw.parent)


def test_names_follow_bids_for_derivatives():
    names = names_of("sub-01_ses-2_acq-mprage_run-1", 1.5)
    base = "sub-01/ses-2/anat/sub-01_ses-2_acq-mprage_run-1"
    space = "space-MNI152NLin2009aSym"
    assert names.brain.as_posix() == f"{base}_{space}_res-1p5_desc-brain_T1w.nii.gz"
    assert names.mask.as_posix() == f"{base}_{space}_res-1p5_desc-brain_mask.nii.gz"
    assert names.native_mask.as_posix() == f"{base}_desc-brain_mask.nii.gz"
    assert names.transform.as_posix() == f"{base}_from-T1w_to-MNI152NLin2009aSym_mode-image_xfm.txt"
    assert sidecar_of(names.brain).name.endswith("_desc-brain_T1w.json")
    assert names_of("sub-01", 2.0).before.as_posix() == "sub-01/figures/sub-01_desc-before_T1w.png"


def test_intensities_are_whole_numbers_with_a_known_median_and_a_clean_background(rng):
    volume = rng.uniform(-0.1, 3, (7, 8, 9)).astype(np.float32)
    mask = rng.random(volume.shape) < 0.5
    whole = as_int16(volume, mask)
    assert whole.dtype == np.int16
    assert (whole[~mask] == 0).all()
    assert (whole[mask] >= 1).all()
    assert np.median(whole[mask]) == pytest.approx(1000, abs=1)
