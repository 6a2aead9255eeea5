"""Members and non-members from a column, from lists and from folders; everything wrong told at once."""

import json
from functools import partial

import numpy as np
import pytest

from privoxel.cohort.bids import load_cohort
from privoxel.cohort.listed import listed_ids, read_listed
from privoxel.cohort.memberships import Sources, assign, group, group_by_ids, load_grouped
from privoxel.cohort.splits import EXCLUDED, MEMBER, NON_MEMBER
from privoxel.errors import CohortError, ProblemsError
from tests.conftest import make_cohort
from tests.niftis import GRID, blob, write_bids, write_image, write_lines

LOAD = partial(load_cohort, grid=GRID)


def read_strictly(path):
    """Read a list; its own problems are raised too."""
    listed = read_listed(path)
    if listed.problems:
        raise ProblemsError("", listed.problems)
    return listed


def states_of(grouped):
    return dict(zip(grouped.cohort.covariates.participants, grouped.states.tolist(), strict=True))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ids.txt", b"\xef\xbb\xbfsub-007\r\n008\r\n\r\n# a remark\r\nn/a\r\n"),
        ("ids.txt", b"007, sub-008"),
        ("ids", b"'007'\r\"008\"\r"),
        ("ids.tsv", b"participant_id\tage\nsub-007\t60\n008\t61\n007\t62\n"),
        ("ids.csv", b"\xef\xbb\xbfAge;Participant_ID\r\n60;sub-007\r\n61;008\r\n"),
        ("ids.csv", b"sub-007\nsub-008\n"),
        ("ids.json", b'["sub-007", "008"]'),
        ("ids.json", b'{"participants": ["007", "008"], "note": "trained 2021"}'),
        ("ids.json", b'[{"participant_id": "sub-007"}, {"subject": "008"}]'),
    ],
)
def test_a_list_of_ids_may_be_text_a_table_or_json(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert list(read_listed(path).lines) == ["007", "008"]


def test_a_folder_names_the_participants_of_its_images(tmp_path):
    write_bids(tmp_path / "bids", ["01", "02"])
    write_image(tmp_path / "plain" / "sub-03_ses-1_T1w.nii.gz", blob(1))
    write_image(tmp_path / "plain" / "IXI004.nii", blob(2))
    assert list(read_listed(tmp_path / "bids").lines) == ["01", "02"]
    assert list(read_listed(tmp_path / "plain").lines) == ["IXI004", "03"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("ids.txt", b"\n\n", "names nobody"),
        ("ids.txt", b"\xff\xfe0\x000\x007\x00", "cannot be read"),
        ("ids.txt", b"00\x007", "holds zero bytes"),
        ("ids.txt", b"x" * 300, "is too long for an id"),
        ("ids.tsv", b"subject\tage\n007\t60\n", "Rename 'subject' if that is it"),
        ("ids.json", b"[" * 100_000, "is no JSON"),
        ("ids.json", b"{", "is no JSON"),
        ("ids.json", b'{"a": 1}', "holds no list of ids"),
        ("ids.json", b'{"members": ["1"], "test": ["2"]}', "holds no list of ids"),
        ("ids.json", b"[1.5, null]", "holds no list of ids"),
        ("missing.txt", None, "is not there"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_with_what_to_do(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ProblemsError, match=message):
        read_strictly(tmp_path / name)


def test_a_list_too_large_to_be_one_is_not_read(tmp_path):
    with (tmp_path / "ids.txt").open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(ProblemsError, match="larger than 64 MiB"):
        read_listed(tmp_path / "ids.txt")


def test_the_member_column_of_a_bids_folder_groups_its_participants(tmp_path):
    folder = write_bids(tmp_path, ["01", "02", "03"])
    write_lines(
        folder / "participants.tsv", "participant_id\tage\tmember", "01\t60\t1", "02\t61\tno", "03\t62\tn/a"
    )
    grouped = load_grouped(Sources(folder), LOAD)
    assert states_of(grouped) == {"01": MEMBER, "02": NON_MEMBER, "03": EXCLUDED}
    assert grouped.design.members == ("01",)
    assert grouped.scan_states.tolist() == [1, 0, -1]


def test_the_member_column_of_a_table_of_volumes_groups_them(tmp_path):
    for k in range(3):
        write_image(tmp_path / f"sub-0{k}_T1w.nii.gz", blob(k))
    rows = [f"sub-0{k}_T1w.nii.gz,{60 + k},{k % 2}" for k in range(3)]
    table = write_lines(tmp_path / "scans.csv", "path,age,member", *rows)
    assert states_of(load_grouped(Sources(table), LOAD)) == {"00": 0, "01": 1, "02": 0}


def test_without_a_member_column_the_lists_are_suggested(tmp_path):
    with pytest.raises(ProblemsError, match="--members and --non-members"):
        load_grouped(Sources(write_bids(tmp_path)), LOAD)


def test_two_lists_leave_out_who_is_in_neither_and_say_how_many(tmp_path):
    folder = write_bids(tmp_path / "study", ["01", "02", "03"])
    sources = Sources(
        folder,
        write_lines(tmp_path / "m.txt", "01"),
        write_lines(tmp_path / "n.csv", "participant_id", "3", "03"),
    )
    with pytest.raises(ProblemsError, match=r"names sub-3, who is not in the cohort\. Write sub-03"):
        load_grouped(sources, LOAD)
    grouped = load_grouped(sources, LOAD, skip_bad=True)
    assert states_of(grouped) == {"01": 1, "02": -1, "03": 0}
    assert grouped.notes == ("1 participants of the cohort are in neither list and left out.",)


def test_members_alone_make_everyone_else_a_non_member_and_say_so(tmp_path):
    folder = write_bids(tmp_path / "study")
    grouped = load_grouped(Sources(folder, write_lines(tmp_path / "m.txt", "sub-02")), LOAD)
    assert states_of(grouped) == {"01": 0, "02": 1, "03": 0}
    assert "used for validation" in grouped.notes[0]


def test_a_list_with_a_member_column_says_all_by_itself(tmp_path):
    folder = write_bids(tmp_path / "study")
    table = write_lines(tmp_path / "m.tsv", "participant_id\tmember", "01\t1", "02\t0", "99\tn/a")
    assert states_of(load_grouped(Sources(folder, table), LOAD)) == {"01": 1, "02": 0, "03": -1}


def test_everything_wrong_is_told_at_once(tmp_path):
    folder = write_bids(tmp_path / "study", ["01", "02", "03"], extra="sub-04\t44\tF\tA")
    sources = Sources(
        folder,
        write_lines(tmp_path / "m.txt", "01", "02", "IXI1"),
        write_lines(tmp_path / "n.txt", "02", "O3", "04"),
    )
    with pytest.raises(ProblemsError) as raised:
        load_grouped(sources, LOAD)
    message = str(raised.value)
    assert "(4 found)" in message
    assert "names sub-04, of whom there is no T1w image" in message
    assert "m.txt line 3: names sub-IXI1, who is not in the cohort. Correct the id" in message
    assert "n.txt line 2: names sub-O3, who is not in the cohort" in message
    assert "m.txt line 2 and n.txt line 1: name sub-02 on both sides" in message


def test_people_on_both_sides_are_in_neither_group_if_faults_are_skipped():
    cohort = make_cohort(4)
    grouped = group(cohort, listed_ids(["000", "001"], "m"), listed_ids(["001", "002"], "n"), skip_bad=True)
    assert states_of(grouped) == {"000": 1, "001": -1, "002": 0, "003": -1}


def test_hundreds_of_unknown_ids_are_counted_not_listed():
    listed = listed_ids([f"x{k:04d}" for k in range(300)] + ["007"], "m.txt")
    found = assign([f"{k:03d}" for k in range(10)], listed)
    assert len(found.problems) == 21
    assert "names 280 more people who are not in the cohort (300 of 301)" in str(found.problems[-1])


def test_someone_whose_scan_cannot_be_used_is_not_unknown():
    found = assign(["1", "2"], listed_ids(["1", "3"], "m"), listed_ids(["2"], "n"), unusable={"3"})
    assert found.problems == ()
    assert found.states.tolist() == [1, 0]


@pytest.mark.parametrize("written", ["7", "SUB007", "0007", "sub_007", "00-7"])
def test_spellings_of_an_id_are_recognised(written):
    found = assign(["007", "008"], listed_ids([written], "m"), listed_ids(["008"], "n"))
    assert "Write sub-007 if that is meant" in str(found.problems[0])


def test_words_that_are_neither_yes_nor_no_and_two_memberships_are_named(tmp_path):
    folder = write_bids(tmp_path, ["01", "02"])
    write_lines(folder / "participants.tsv", "participant_id\tage\tmember", "01\t60\tperhaps", "02\t61\t0")
    with pytest.raises(ProblemsError, match="line 2: has a member value that is neither yes nor no"):
        load_grouped(Sources(folder), LOAD)


def test_two_bids_folders_are_the_groups(tmp_path):
    members, others = write_bids(tmp_path / "m", ["01", "02"]), write_bids(tmp_path / "n", ["03"])
    grouped = load_grouped(Sources(members=members, non_members=others), LOAD)
    assert states_of(grouped) == {"01": 1, "02": 1, "03": 0}
    np.testing.assert_array_equal(grouped.cohort.volume(2), load_cohort(others, grid=GRID).volume(0))


def test_two_folders_of_files_take_ages_from_the_table_beside_them(tmp_path):
    write_image(tmp_path / "members" / "sub-01_T1w.nii.gz", blob(1))
    write_image(tmp_path / "others" / "IXI002.nii.gz", blob(2))
    write_lines(tmp_path / "participants.tsv", "participant_id\tage", "sub-01\t60", "IXI002\t70")
    grouped = load_grouped(Sources(None, tmp_path / "members", tmp_path / "others"), LOAD)
    assert states_of(grouped) == {"01": 1, "IXI002": 0}
    assert grouped.cohort.covariates.age.tolist() == [60, 70]


def test_a_participant_in_both_folders_is_named_and_can_be_left_out(tmp_path):
    members, others = write_bids(tmp_path / "m", ["01", "02"]), write_bids(tmp_path / "n", ["02", "03"])
    sources = Sources(members=members, non_members=others)
    with pytest.raises(ProblemsError, match="m and n: both hold scans of sub-02"):
        load_grouped(sources, LOAD)
    grouped = load_grouped(sources, LOAD, skip_bad=True)
    assert states_of(grouped) == {"01": 1, "03": 0}
    assert grouped.notes == ("1 participants with scans in both folders are left out.",)


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ((None, None, None), "got nothing. Give --cohort"),
        ((None, "m.txt", None), "got --members file. Give --cohort"),
        (("study", None, "m.txt"), "got --non-members alone"),
    ],
)
def test_too_few_sources_are_explained(tmp_path, sources, message):
    write_bids(tmp_path / "study")
    write_lines(tmp_path / "m.txt", "01")
    with pytest.raises(CohortError, match=message):
        load_grouped(Sources(*(None if name is None else tmp_path / name for name in sources)), LOAD)


@pytest.mark.parametrize("named", [["01", "02", "03"], []])
def test_a_single_group_gives_no_audit(tmp_path, named):
    folder = write_bids(tmp_path / "study")
    path = tmp_path / "m.json"
    path.write_text(json.dumps(named))
    with pytest.raises(CohortError, match=r"needs people whom the model was not trained on|names nobody"):
        load_grouped(Sources(folder, path), LOAD)


def test_a_program_may_give_ids_masks_or_cohorts():
    cohort = make_cohort(4, sessions=2)
    expected = {"000": 1, "001": 1, "002": 0, "003": 0}
    people = np.array([True, True, False, False])
    assert states_of(group_by_ids(cohort, ["sub-000", "001"])) == expected
    assert states_of(group_by_ids(cohort, people)) == expected
    assert states_of(group_by_ids(cohort, np.repeat(people, 2))) == expected
    assert states_of(group_by_ids(cohort, cohort.select([0, 1, 2]), ["002", "003"])) == expected


def test_a_mask_that_divides_a_person_or_does_not_fit_is_refused():
    cohort = make_cohort(4, sessions=2)
    with pytest.raises(CohortError, match="got 1 people with scans on both"):
        group_by_ids(cohort, np.arange(8) < 3)
    with pytest.raises(CohortError, match=r"4 participants or 8 scans, got shape \(5,\)"):
        group_by_ids(cohort, np.zeros(5, dtype=bool))


def test_excluding_people_later_keeps_the_reason():
    grouped = group_by_ids(make_cohort(4), ["000"]).without({"003"}, "1 copy.")
    assert grouped.states.tolist() == [1, 0, 0, -1]
    assert grouped.notes[-1] == "1 copy."
