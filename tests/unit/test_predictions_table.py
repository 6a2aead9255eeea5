"""Reading a table of predictions: what it may look like, and every fault at once."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privoxel.cohort.columns import nearest_column
from privoxel.cohort.predictions import load_predictions
from privoxel.errors import CohortError, PrivoxelError, ProblemsError
from tests.predictions import write_lines, write_predictions

GOOD = ["sub-1\t60\t61.5\t1", "sub-2\t62\t63.5\t0"]


def refusal(path):
    with pytest.raises(ProblemsError) as raised:
        load_predictions(path)
    return str(raised.value)


def test_a_table_gives_people_predictions_and_membership(tmp_path):
    found = load_predictions(
        write_predictions(tmp_path / "p.tsv", members=3, non_members=4, more=("sex", "sd"))
    )
    assert len(found.covariates) == 7
    assert sorted(found.state.tolist()) == [0, 0, 0, 0, 1, 1, 1]
    assert set(found.covariates.sex) <= {"F", "M"}
    assert found.sd.tolist() == [3.5] * 7


def test_answers_of_reference_models_are_missing_where_they_were_trained_on_the_person(tmp_path):
    header = ("participant_id", "age", "predicted_age", "member", "reference_1", "reference_2")
    lines = ["sub-1\t60\t61.5\t1\t62\tn/a", "sub-2\t62\t63.5\t0\t60.5\t61"]
    found = load_predictions(write_lines(tmp_path / "p.tsv", lines, header=header))
    np.testing.assert_array_equal(found.references, [[62.0, np.nan], [60.5, 61.0]])
    assert load_predictions(write_lines(tmp_path / "q.tsv", GOOD)).references is None
    lines[1] = "sub-2\t62\t63.5\t0\tmany\t61"
    said = refusal(write_lines(tmp_path / "r.tsv", lines, header=header))
    assert "line 3" in said
    assert "has a reference_1 that is not a number" in said


def test_bom_crlf_semicolons_and_case_are_read(tmp_path):
    path = tmp_path / "p.csv"
    text = "Participant_ID;AGE;Predicted_Age;Member;Site\r\nsub-1;60;61;TRUE;A\r\n\r\n2;62.5;60;no;B\r\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    found = load_predictions(path)
    assert [scan.participant for scan in found.covariates.scans] == ["1", "2"]
    assert found.state.tolist() == [1, 0]
    assert found.covariates.site.tolist() == ["A", "B"]
    assert found.sd is None


@pytest.mark.parametrize(
    ("word", "state"),
    [("1", 1), ("train", 1), ("Yes", 1), ("0", 0), ("test", 0), ("non-member", 0), ("n/a", -1), ("val", -1)],
)
def test_words_for_membership(tmp_path, word, state):
    path = write_lines(tmp_path / "p.tsv", [*GOOD, f"sub-3\t50\t51\t{word}"])
    assert load_predictions(path).state.tolist() == [1, 0, state]


def test_a_missing_column_is_answered_with_the_one_that_may_be_meant(tmp_path):
    path = write_lines(tmp_path / "p.tsv", GOOD, header=("subject", "agee", "brain_age", "group_x"))
    message = refusal(path)
    assert "(4 found)" in message
    assert "has no column 'participant_id'. Rename 'subject' if that is it" in message
    assert "has no column 'age'. Rename 'agee' if that is it" in message
    assert "has no column 'predicted_age'. Rename 'brain_age' if that is it" in message
    assert "has no column 'member'. Add it; the columns are subject" in message


def test_thousands_of_columns_are_not_all_recited(tmp_path):
    path = write_lines(tmp_path / "p.tsv", [], header=tuple(f"c{k}" for k in range(5000)))
    assert len(refusal(path)) < 1500


def test_every_fault_is_told_at_once_and_lines_of_one_fault_together(tmp_path):
    lines = [
        *GOOD,
        "sub-3\t63 years\t60\t1",
        "sub-4\t89+\t60\t0",
        "sub-5\tn/a\t60\t0",
        "sub-6\t61,5\t60\t0",
        "sub-7\t-4\t60\t0",
        "sub-8\t60\tabc\t0",
        "sub-9\t60\t\t0",
        "sub-10\t60\t61\tperhaps",
        "\t60\t61\t0",
        "sub-11\t60\t61",
        *(f"sub-2{k}\t\t61\t0" for k in range(9)),
    ]
    message = refusal(write_lines(tmp_path / "p.tsv", lines))
    for part in (
        "line 4: has an age that is text",
        "line 5: has a top-coded age (such as 89+)",
        "line 7: has an age with a decimal comma",
        "line 8: has an age that cannot be one in years",
        "line 9: has a predicted_age that is not a number",
        "line 10: has no predicted_age",
        "line 11: has a member value that is neither yes nor no",
        "line 12: has no participant_id",
        "line 13: has 3 cells, not 4",
        "lines 6, 14, 15, 16, 17 and 5 more: each has no age",
        "--skip-bad",
    ):
        assert part in message
    assert "63 years" not in message


def test_faulty_lines_can_be_left_out(tmp_path):
    path = write_lines(tmp_path / "p.tsv", [*GOOD, "sub-2\t62\t60\t0"])
    with pytest.raises(CohortError, match=r"needs people whom .* \(2 faulty lines left out\)"):
        load_predictions(path, skip_bad=True)
    kept = load_predictions(write_lines(path, [*GOOD, "sub-3\tn/a\t60\t1"]), skip_bad=True)
    assert len(kept.covariates) == 2
    assert [str(problem) for problem in kept.problems] == ["p.tsv line 4: has no age. Give it in years"]


def test_repeats_and_people_of_two_memberships_are_refused(tmp_path):
    lines = [*GOOD, "2\t62\t60\t0", "sub-3\t50\t51\t1", "sub-5\t50\t51\t0"]
    assert "lines 3, 4: each has the same participant and session" in refusal(
        write_lines(tmp_path / "p.tsv", lines)
    )
    header = ("participant_id", "age", "predicted_age", "member", "session")
    sessions = [
        "sub-1\t60\t61\t1\t1",
        "sub-1\t61\t62\t0\tses-2",
        "sub-2\t60\t61\t0\t1",
        "sub-2\t60\t61\t0\t2",
    ]
    assert "lines 2, 3: each has a participant whose other lines have another membership" in refusal(
        write_lines(tmp_path / "s.tsv", sessions, header=header)
    )


@pytest.mark.parametrize(("factor", "unit", "advice"), [(365.25, "days", "365.25"), (12, "months", "12")])
def test_ages_in_other_units_are_one_fault_of_the_column(tmp_path, factor, unit, advice):
    lines = [f"sub-{k}\t{(50 + k) * factor:.1f}\t{50 + k}\t{k % 2}" for k in range(30)]
    message = refusal(write_lines(tmp_path / "p.tsv", lines))
    assert f"has a column 'age' whose values are mostly above 120, as ages in {unit} are" in message
    assert f"Divide it by {advice}" in message


def test_codes_for_sex_and_sites_that_are_none_are_refused(tmp_path):
    header = ("participant_id", "age", "predicted_age", "member", "sex", "site")
    lines = [f"sub-{k}\t60\t61\t{k % 2}\t{k % 2}\tscan-{k}" for k in range(150)]
    message = refusal(write_lines(tmp_path / "p.tsv", lines, header=header))
    assert "has a column 'sex' with codes that differ between studies (0, 1)" in message
    assert "has a column 'site' with 150 different values for 150 scans" in message


def test_members_only_is_explained(tmp_path):
    path = write_lines(tmp_path / "p.tsv", [f"sub-{k}\t60\t61\t1" for k in range(20)])
    with pytest.raises(CohortError, match=r"20 member scans and 0 non-member.*no verdict.*privoxel scan"):
        load_predictions(path)
    with pytest.raises(CohortError, match="needs members"):
        load_predictions(write_lines(path, [f"sub-{k}\t60\t61\t0" for k in range(20)]))


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"\x00\x01\x02", "participant_id\tage".encode("utf-16"), b'a,"b\nc,d']
)
def test_what_is_no_table_is_a_clear_error(tmp_path, content):
    path = tmp_path / "p.tsv"
    path.write_bytes(content)
    with pytest.raises(PrivoxelError, match=r"p\.tsv"):
        load_predictions(path)


CELL = st.text(
    st.characters(blacklist_characters="\t\r\n", blacklist_categories=["Cs"]), max_size=12
) | st.sampled_from(["sub-1", "60", "n/a", "89+", "1", "0", "1e400", "nan", "-0", "６０", "1_0", '"'])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.lists(CELL, min_size=3, max_size=6), max_size=12), skip=st.booleans())
def test_any_table_is_read_or_refused_with_words(tmp_path, lines, skip):
    header = ("participant_id", "age", "predicted_age", "member", "sex")
    path = write_lines(tmp_path / "p.tsv", ["\t".join(cells) for cells in lines], header=header)
    try:
        found = load_predictions(path, skip_bad=skip)
    except PrivoxelError:
        return
    assert np.isfinite(found.prediction).all()
    assert np.isfinite(found.covariates.age).all()


def test_the_nearest_column_is_not_guessed_from_afar():
    assert nearest_column("member", ["site", "volume"], ("train",)) is None
    assert nearest_column("age", ["Age Years"], ("age_years",)) == "Age Years"
