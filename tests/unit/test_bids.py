import gzip
import os
import struct

import nibabel as nib
import numpy as np
import pytest

from privoxel.cohort.bids import load_cohort
from privoxel.cohort.splits import training_scans
from privoxel.errors import CohortError, ProblemsError
from tests.niftis import AFFINE, GRID, SHAPE, blob, image_path, write_bids, write_image, write_lines

MNI = "_space-MNI152NLin2009aSym_desc-brain"


def problems_of(folder, **options):
    with pytest.raises(ProblemsError) as error:
        load_cohort(folder, grid=GRID, **options)
    return {(p.where, p.participant): p.what for p in error.value.problems}


def test_a_bids_folder_is_a_cohort(tmp_path):
    cohort = load_cohort(write_bids(tmp_path / "study"), grid=GRID)
    assert [str(scan) for scan in cohort.covariates.scans] == ["sub-01", "sub-02", "sub-03"]
    np.testing.assert_array_equal(cohort.covariates.age, [41, 42, 43])
    assert cohort.covariates.sex.tolist() == ["F", "M", "F"]
    assert cohort.covariates.site.tolist() == ["A", "B", "A"]
    assert cohort.name == "study"
    assert cohort.history[0] == "T1w images as given, space MNI152NLin2009aSym"
    assert cohort.volume(1).shape == GRID.shape


def test_participants_can_be_chosen_by_their_columns(tmp_path):
    folder = write_bids(tmp_path)
    image_path(folder, "02", entities=MNI).unlink()
    cohort = load_cohort(folder, grid=GRID, where={"site": ["A"]})
    assert cohort.covariates.participants == ("01", "03")
    assert cohort.problems == ()


def test_the_brain_in_mni_space_is_preferred_and_reconstructions_are_scans(tmp_path):
    folder = write_bids(tmp_path, ["01"])
    for entities in ("", "_desc-preproc", "_space-T1w_desc-brain", "_space-MNI152NLin2009aSym_desc-preproc"):
        write_image(image_path(folder, "01", entities=entities), blob(50))
    write_image(image_path(folder, "01", entities="_rec-alt" + MNI), blob(51))
    cohort = load_cohort(folder, grid=GRID)
    assert [str(scan) for scan in cohort.covariates.scans] == ["sub-01", "sub-01_rec-alt"]
    assert [path.endswith(f"{MNI}_T1w.nii.gz") for path in cohort.source.paths] == [True, True]


def test_two_equally_good_images_are_an_ambiguity(tmp_path):
    folder = write_bids(tmp_path)
    write_image(image_path(folder, "02", entities="_run-2" + MNI), blob(9))
    found = problems_of(folder)
    assert list(found) == [("sub-02/anat/sub-02_run-2_space-MNI152NLin2009aSym_desc-brain_T1w.nii.gz", "02")]
    assert "one of 2 images that could be sub-02" in next(iter(found.values()))


def test_sessions_have_ages_of_their_own(tmp_path):
    folder = tmp_path
    for participant, session in (("01", "a"), ("01", "b"), ("02", "a")):
        write_image(image_path(folder, participant, session=session), blob(ord(session)))
    write_lines(folder / "participants.tsv", "participant_id\tage", "sub-01\t60", "sub-02\t70")
    write_lines(folder / "sub-01" / "sub-01_sessions.tsv", "session_id\tage", "ses-a\tn/a", "ses-b\t62.5")
    cohort = load_cohort(folder, grid=GRID)
    assert [str(s) for s in cohort.covariates.scans] == ["sub-01_ses-a", "sub-01_ses-b", "sub-02_ses-a"]
    np.testing.assert_array_equal(cohort.covariates.age, [60, 62.5, 70])
    assert cohort.covariates.participant_index.tolist() == [0, 0, 1]


def test_the_first_session_of_a_folder_is_the_one_of_the_smallest_number(tmp_path):
    for session in ("10", "2"):
        write_image(image_path(tmp_path, "01", session=session), blob(int(session)))
    write_lines(tmp_path / "participants.tsv", "participant_id\tage", "sub-01\t60")
    people = load_cohort(tmp_path, grid=GRID).covariates
    assert [str(s) for s in people.select(training_scans(people, 1)).scans] == ["sub-01_ses-2"]


def test_participants_tsv_may_lie_in_the_dataset_above_a_derivative(tmp_path):
    folder = write_bids(tmp_path / "derivatives" / "pipeline")
    (folder / "participants.tsv").rename(tmp_path / "participants.tsv")
    assert len(load_cohort(folder, grid=GRID)) == 3
    with pytest.raises(ProblemsError, match="Give one of its derivatives: pipeline"):
        load_cohort(tmp_path, grid=GRID)


def test_fmriprep_s_names_are_read_and_the_same_space_is_taken_of_everyone(tmp_path):
    folder = tmp_path / "derivatives" / "fmriprep"
    for k, participant in enumerate(("01", "02")):
        for space in ("", "_space-MNI152NLin6Asym", "_space-MNI152NLin2009cAsym"):
            write_image(image_path(folder, participant, entities=f"{space}_desc-preproc"), blob(k))
        mask = image_path(folder, participant, entities="_space-MNI152NLin2009cAsym_desc-brain")
        write_image(mask.with_name(mask.name.replace("T1w", "mask")), blob(k))
    write_lines(tmp_path / "participants.tsv", "participant_id\tage", "sub-01\t40", "sub-02\t50")
    cohort = load_cohort(folder, grid=GRID)
    assert len(cohort) == 2
    assert all("space-MNI152NLin2009cAsym_desc-preproc_T1w" in path for path in cohort.source.paths)


@pytest.mark.parametrize("inside", ["anat", "mri", "anat/mri", "ses-1/anat", "ses-1/mri"])
def test_cat12_s_warped_images_are_read_and_its_other_outputs_left_alone(tmp_path, inside):
    name = "sub-01_ses-1_T1w.nii" if "ses-1" in inside else "sub-01_T1w.nii"
    for k, steps in enumerate(("wm", "mwp1", "mwp2", "p0", "y_", "")):
        if steps or "mri" not in inside:
            write_image(tmp_path / "sub-01" / inside / f"{steps}{name}", blob(k))
    write_lines(tmp_path / "participants.tsv", "participant_id\tage", "sub-01\t40")
    cohort = load_cohort(tmp_path, grid=GRID)
    assert [path.split("/")[-1] for path in cohort.source.paths] == [f"wm{name}"]
    assert cohort.covariates.scans[0].session == ("1" if "ses-1" in inside else "")
    assert cohort.history[0] == "T1w images as given, space MNI152"


def spoil(folder):
    """Spoil a folder of six participants in every way a table or a header can show."""
    write_image(image_path(folder, "01", entities=MNI), np.stack([blob(1)] * 2, axis=-1))
    whole = image_path(folder, "02", entities=MNI)
    whole.write_bytes(whole.read_bytes()[:150])
    nib.save(nib.Nifti1Image(blob(3), None), image_path(folder, "03", entities=MNI))
    write_image(image_path(folder, "04", entities=MNI), blob(4), np.diag([10.0, 10.0, 10.0, 1.0]))
    write_image(image_path(folder, "stranger", entities=MNI), blob(5))
    write_image(image_path(folder, "06", entities=MNI).with_name("sub-05_T1w.nii.gz"), blob(6))


def test_everything_wrong_with_tables_and_headers_is_reported_at_once(tmp_path):
    folder = write_bids(tmp_path, ["01", "02", "03", "04", "05", "06"], extra="sub-05\t45\tF\tA")
    spoil(folder)
    write_lines(
        folder / "participants.tsv",
        *(folder / "participants.tsv").read_text().split("\n")[:-1],
        "\t5\t\t",
        "sub-ghost\t50\tF\tA",
    )
    found = problems_of(folder)
    tail = "space-MNI152NLin2009aSym_desc-brain_T1w.nii.gz"
    assert found == {
        ("participants.tsv line 8", "05"): "names sub-05 a second time",
        ("participants.tsv line 9", None): "has no participant_id",
        ("sub-06/anat/sub-05_T1w.nii.gz", "06"): "does not bear the participant and session of its folder",
        (
            f"sub-stranger/anat/sub-stranger_{tail}",
            "stranger",
        ): "is of a participant who is not in participants.tsv",
        ("participants.tsv line 10", "ghost"): "names sub-ghost, of whom there is no T1w image",
        (f"sub-01/anat/sub-01_{tail}", "01"): "has 4 dimensions, not 3",
        (f"sub-02/anat/sub-02_{tail}", "02"): "cannot be read (EOFError)",
        (
            f"sub-03/anat/sub-03_{tail}",
            "03",
        ): "does not say how it lies in space (sform and qform codes are 0)",
        (f"sub-04/anat/sub-04_{tail}", "04"): found[(f"sub-04/anat/sub-04_{tail}", "04")],
    }
    assert "of the brain's place in MNI152 space" in found[(f"sub-04/anat/sub-04_{tail}", "04")]


def test_skipping_the_bad_keeps_the_rest_and_says_so(tmp_path):
    folder = write_bids(tmp_path, ["01", "02", "03", "04", "05", "06"])
    spoil(folder)
    cohort = load_cohort(folder, grid=GRID, skip_bad=True)
    assert cohort.covariates.participants == ("05", "06")
    assert [p.participant for p in cohort.problems] == ["06", "stranger", "01", "02", "03", "04"]


def test_a_cohort_of_nothing_good_is_refused_even_when_skipping(tmp_path):
    folder = write_bids(tmp_path, ["01"])
    image_path(folder, "01", entities=MNI).write_bytes(b"not an image")
    with pytest.raises(ProblemsError, match="no usable T1w image"):
        load_cohort(folder, grid=GRID, skip_bad=True)


def headers():
    """Return damaged headers by the words that explain them."""
    huge = nib.Nifti1Header()
    huge.set_data_shape((2000, 2000, 2000))
    huge.set_sform(AFFINE, code=4)
    flat = nib.Nifti1Header()
    flat.set_data_shape((15, 19, 1))
    flat.set_sform(AFFINE, code=4)
    infinite = nib.Nifti1Header()
    infinite.set_data_shape(SHAPE)
    infinite.set_sform(AFFINE, code=4)
    infinite["srow_x"] = np.nan
    coloured = nib.Nifti1Header()
    coloured.set_data_dtype("RGB")
    coloured.set_data_shape(SHAPE)
    coloured.set_sform(AFFINE, code=4)
    return {"claims 2000×2000×2000": huge, "has shape": flat, "no usable affine": infinite, "holds": coloured}


@pytest.mark.parametrize("words", list(headers()))
def test_damaged_headers_are_refused_before_a_voxel_is_read(tmp_path, words):
    folder = write_bids(tmp_path, ["01", "02"])
    with gzip.open(image_path(folder, "02", entities=MNI), "wb") as stream:
        header = headers()[words]
        header["magic"] = b"n+1"
        header["vox_offset"] = 352
        stream.write(header.binaryblock + struct.pack("4x") + b"\0" * 400)
    with pytest.raises(ProblemsError, match=f"sub-02.*{words}"):
        load_cohort(folder, grid=GRID)


def test_a_plain_file_cut_short_shows_without_reading_it(tmp_path):
    path = write_image(tmp_path / "sub-01_T1w.nii", blob(0))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ProblemsError, match="is cut short"):
        load_cohort(write_lines(tmp_path / "t.csv", "path,age", "sub-01_T1w.nii,40"), grid=GRID)


def test_a_link_to_content_not_fetched_says_how_to_fetch_it(tmp_path):
    folder = write_bids(tmp_path)
    path = image_path(folder, "02", entities=MNI)
    path.unlink()
    path.symlink_to("../../.git/annex/objects/absent")
    with pytest.raises(ProblemsError, match="datalad get"):
        load_cohort(folder, grid=GRID)


def test_a_trailing_axis_of_one_is_no_fourth_dimension(tmp_path):
    folder = write_bids(tmp_path, ["01"])
    plain = load_cohort(folder, grid=GRID).volume(0)
    write_image(image_path(folder, "01", entities=MNI), blob(0)[..., None])
    np.testing.assert_array_equal(load_cohort(folder, grid=GRID).volume(0), plain)


def test_a_path_that_is_not_there_and_a_folder_without_participants_are_explained(tmp_path):
    with pytest.raises(CohortError, match="which is not there"):
        load_cohort(tmp_path / "absent", grid=GRID)
    with pytest.raises(ProblemsError, match=r"participants\.tsv: is not there"):
        load_cohort(tmp_path, grid=GRID)


def test_the_fingerprint_changes_with_file_grid_and_normalisation(tmp_path):
    folder = write_bids(tmp_path)
    first = load_cohort(folder, grid=GRID).fingerprint
    assert load_cohort(folder, grid=GRID).fingerprint == first
    assert load_cohort(folder, grid=GRID, normalise="brain").fingerprint != first
    path = image_path(folder, "02", entities=MNI)
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1_000_000))
    assert load_cohort(folder, grid=GRID).fingerprint != first


def test_further_columns_are_kept_and_a_session_has_its_own(tmp_path):
    for participant, session in (("01", "a"), ("01", "b"), ("02", "a")):
        write_image(image_path(tmp_path, participant, session=session), blob(ord(session)))
    people = ("sub-01\t60\t1.5e3\t12", "sub-02\t70\tn/a\t")
    write_lines(tmp_path / "participants.tsv", "participant_id\tage\tTIV\teducation", *people)
    sessions = ("ses-a\t60\tn/a", "ses-b\t62.5\t1480")
    write_lines(tmp_path / "sub-01" / "sub-01_sessions.tsv", "session_id\tage\ttiv", *sessions)
    columns = load_cohort(tmp_path, grid=GRID, columns=("TIV", "education", "TIV")).covariates.columns
    assert list(columns) == ["TIV", "education"]
    np.testing.assert_array_equal(columns["TIV"], [1500, 1480, np.nan])
    np.testing.assert_array_equal(columns["education"], [12, 12, np.nan])
    assert not load_cohort(tmp_path, grid=GRID).covariates.columns


def test_a_further_column_that_is_not_there_is_told_with_the_one_that_may_be_meant(tmp_path):
    folder = write_bids(tmp_path)
    lines = (folder / "participants.tsv").read_text().splitlines()
    write_lines(
        folder / "participants.tsv",
        f"{lines[0]}\ttivs",
        f"{lines[1]}\tn/a",
        *(f"{line}\t1,5" for line in lines[2:]),
    )
    for skip_bad in (False, True):
        with pytest.raises(ProblemsError, match=r"has no column 'tiv'. Rename 'tivs' if that is it"):
            load_cohort(folder, grid=GRID, columns=("tiv",), skip_bad=skip_bad)
    found = problems_of(folder, columns=("tivs",))
    assert {participant for _, participant in found} == {"02", "03"}
    assert set(found.values()) == {"has a value in 'tivs' that is not a number"}
