import numpy as np
import pytest

from privoxel.cohort.bids import load_cohort
from privoxel.cohort.tables import Row, matching, parse_age, read_table, sex_of
from privoxel.errors import CohortError, ProblemsError
from tests.niftis import GRID, blob, write_image, write_lines


def faults(error):
    return {(p.where, p.what) for p in error.value.problems}


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(("sub-01_T1w.nii.gz", "sub-02_ses-a_T1w.nii.gz", "plain.nii")):
        write_image(tmp_path / name, blob(i))
    return tmp_path


def test_a_table_of_paths_and_ages_is_a_cohort(folder):
    table = write_lines(
        folder / "scans.csv",
        "path,age,sex",
        "sub-01_T1w.nii.gz,41.5,F",
        "sub-02_ses-a_T1w.nii.gz,52,M",
        "plain.nii,63,",
    )
    cohort = load_cohort(table, grid=GRID)
    assert [str(scan) for scan in cohort.covariates.scans] == ["sub-01", "sub-02_ses-a", "sub-plain.nii"]
    np.testing.assert_array_equal(cohort.covariates.age, [41.5, 52, 63])
    assert cohort.covariates.sex.tolist() == ["F", "M", ""]
    assert cohort.name == "scans"


def test_a_table_of_cat12_files_knows_whose_they_are(tmp_path):
    for k, steps in enumerate(("mwp1", "mwp1", "wm")):
        write_image(tmp_path / f"{steps}sub-0{k}_ses-b_T1w.nii", blob(k))
    lines = [f"{steps}sub-0{k}_ses-b_T1w.nii,{40 + k}" for k, steps in enumerate(("mwp1", "mwp1", "wm"))]
    cohort = load_cohort(write_lines(tmp_path / "t.csv", "path,age", *lines), grid=GRID)
    assert [str(scan) for scan in cohort.covariates.scans] == [f"sub-0{k}_ses-b" for k in range(3)]


def test_columns_name_participants_and_sessions(folder):
    table = write_lines(
        folder / "scans.tsv",
        "participant_id\tsession\tpath\tage\tsite",
        "sub-07\t1\tsub-01_T1w.nii.gz\t41\tA",
        "07\tses-2\tplain.nii\t43\tA",
    )
    cohort = load_cohort(table, grid=GRID)
    assert [str(scan) for scan in cohort.covariates.scans] == ["sub-07_ses-1", "sub-07_ses-2"]
    assert cohort.covariates.participants == ("07",)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("comma", [",", ";", "\t"])
def test_byte_order_marks_line_ends_and_separators_do_not_matter(tmp_path, end, mark, comma):
    path = write_lines(
        tmp_path / "t.csv", mark + comma.join(("Path", "AGE")), comma.join(("007", "1")), "", end=end
    )
    table = read_table(path, ("path", "age"))
    assert table.columns == ("path", "age")
    assert [row.get("path") for row in table.rows] == ["007"]


def test_every_line_at_fault_is_reported_at_once(folder):
    table = write_lines(
        folder / "scans.csv",
        "path,age",
        "sub-01_T1w.nii.gz,n/a",
        "sub-02_ses-a_T1w.nii.gz,89+",
        "plain.nii,780",
        ",50",
        "absent.nii.gz,50",
        "notes.txt,50",
        "a,b,c",
    )
    write_lines(folder / "notes.txt", "no image")
    with pytest.raises(ProblemsError, match="7 found") as error:
        load_cohort(table, grid=GRID)
    assert faults(error) == {
        ("sub-01_T1w.nii.gz", "has no age (scans.csv line 2)"),
        (
            "sub-02_ses-a_T1w.nii.gz",
            "has a top-coded age (such as 89+), so that the model's error on it is not known "
            "(scans.csv line 3)",
        ),
        ("plain.nii", "has an age that cannot be one in years (scans.csv line 4)"),
        ("scans.csv line 5", "has no path"),
        ("absent.nii.gz", "is not there"),
        ("notes.txt", "is not a NIfTI file"),
        ("scans.csv line 8", "has 3 cells, not 2"),
    }
    assert all(problem.remedy for problem in error.value.problems)


def test_no_message_tells_an_age(folder):
    table = write_lines(folder / "scans.csv", "path,age", "plain.nii,780", "sub-01_T1w.nii.gz,sixty")
    with pytest.raises(ProblemsError) as error:
        load_cohort(table, grid=GRID)
    assert "780" not in str(error.value)
    assert "sixty" not in str(error.value)


def test_paths_outside_the_folder_need_a_root(tmp_path):
    image = write_image(tmp_path / "images" / "sub-01_T1w.nii.gz", blob(0))
    table = write_lines(tmp_path / "lists" / "scans.csv", "path,age", "../images/sub-01_T1w.nii.gz,41")
    with pytest.raises(ProblemsError, match=r"outside the table's folder.*--root") as error:
        load_cohort(table, grid=GRID)
    assert error.value.problems[0].participant == "01"
    assert len(load_cohort(table, grid=GRID, root=image.parent)) == 1


def test_a_link_does_not_lead_out_of_the_folder(tmp_path):
    image = write_image(tmp_path / "images" / "sub-01_T1w.nii.gz", blob(0))
    table = write_lines(tmp_path / "lists" / "scans.csv", "path,age", "link.nii.gz,41")
    (table.parent / "link.nii.gz").symlink_to(image)
    with pytest.raises(ProblemsError, match="outside the table's folder"):
        load_cohort(table, grid=GRID)


def test_a_scan_named_twice_is_left_out_altogether(folder):
    table = write_lines(
        folder / "scans.csv",
        "participant_id,path,age",
        "1,sub-01_T1w.nii.gz,41",
        "1,plain.nii,42",
        "2,sub-02_ses-a_T1w.nii.gz,50",
    )
    cohort = load_cohort(table, grid=GRID, skip_bad=True)
    assert [str(scan) for scan in cohort.covariates.scans] == ["sub-2_ses-a"]
    assert [p.where for p in cohort.problems] == ["sub-01_T1w.nii.gz", "plain.nii"]
    assert "session column" in cohort.problems[0].remedy


def test_one_file_cannot_be_two_scans(folder):
    table = write_lines(folder / "scans.csv", "participant_id,path,age", "1,plain.nii,41", "2,./plain.nii,42")
    with pytest.raises(ProblemsError, match="is there 2 times"):
        load_cohort(table, grid=GRID)


@pytest.mark.parametrize(
    ("header", "message"),
    [("file,age", "no column 'path'"), ("path,years", "no column 'age'"), ("path,age,age", "'age' 2 times")],
)
def test_missing_and_repeated_columns_are_named(tmp_path, header, message):
    with pytest.raises(ProblemsError, match=message):
        read_table(write_lines(tmp_path / "t.csv", header, "a,1,1"), ("path", "age"))


def test_an_empty_table_and_another_encoding_are_explained(tmp_path):
    with pytest.raises(ProblemsError, match="no column 'path'"):
        read_table(write_lines(tmp_path / "empty.csv"), ("path",))
    (tmp_path / "utf16.csv").write_bytes("path,age\n".encode("utf-16"))
    with pytest.raises(ProblemsError, match="UTF-8"):
        read_table(tmp_path / "utf16.csv", ("path",))


@pytest.mark.parametrize(
    ("texts", "sexes"),
    [
        (("F", "male", "n/a", "Female", "m", "other"), ("F", "M", "", "F", "M", "")),
        (("1", "2", "2"), ("M", "F", "F")),
        (("0", "1", "1"), ("", "", "")),
    ],
)
def test_sexes_are_read_from_words_and_unambiguous_numbers(texts, sexes):
    assert sex_of([Row(i, {"sex": text}) for i, text in enumerate(texts)]) == sexes


@pytest.mark.parametrize("text", ["", "inf", "-1", "121", "sixty", "6O"])
def test_an_age_is_a_number_of_years(text):
    with pytest.raises(CohortError, match="age"):
        parse_age(text)


def test_a_selection_names_the_columns_and_values_there_are(tmp_path):
    table = read_table(write_lines(tmp_path / "t.csv", "path,site", "a,A", "b,B", "c,n/a"), ("path",))
    assert matching(table, {"Site": ["B"]}, "t.csv") == (False, True, False)
    with pytest.raises(CohortError, match=r"got scanner. Choose among path, site"):
        matching(table, {"scanner": ["B"]}, "t.csv")
    with pytest.raises(CohortError, match=r"site = C, got none. Present are site: n/a, A, B"):
        matching(table, {"site": ["C"]}, "t.csv")


def test_further_columns_of_a_table_are_kept(folder):
    lines = ("sub-01_T1w.nii.gz,41.5,1.5,", "sub-02_ses-a_T1w.nii.gz,52,n/a,12", "plain.nii,63,inf,many")
    table = write_lines(folder / "scans.csv", "path,age,tiv,Education", *lines)
    with pytest.raises(ProblemsError) as error:
        load_cohort(table, grid=GRID, columns=("tiv", "education"))
    what = "has a value in 'tiv', 'education' that is not a number (scans.csv line 4)"
    assert faults(error) == {("plain.nii", what)}
    cohort = load_cohort(table, grid=GRID, columns=("tiv", "education"), skip_bad=True)
    np.testing.assert_array_equal(cohort.covariates.columns["tiv"], [1.5, np.nan])
    np.testing.assert_array_equal(cohort.covariates.columns["education"], [np.nan, 12])
    with pytest.raises(ProblemsError, match="has no column 'volume'"):
        load_cohort(table, grid=GRID, columns=("volume",))
