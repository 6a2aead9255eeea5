"""``privoxel cohort partition``, on ages alone and on a small BIDS folder."""

import csv
import json
from collections import Counter

import pytest

from tests.niftis import write_bids
from tests.recipes.commands import call


def rows_of(folder):
    with (folder / "learners.tsv").open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def test_the_papers_sizes_are_printed_and_written_without_volumes(monkeypatch, tmp_path, capsys):
    sizes = ",".join(["1037"] * 7 + ["1097"])
    out = tmp_path / "fed"
    arguments = ("--participants", 10446, "--seed", 4, "--sizes", sizes, "-o", out)
    assert call(monkeypatch, "cohort", "partition", *arguments) == 0
    printed = capsys.readouterr().out
    assert "1,097" in printed
    assert printed.count("1,037") == 7
    assert "2,090" in printed
    assert "sub-" not in printed
    rows = rows_of(out)
    assert Counter(row["learner"] for row in rows) == {
        "L1": 1097,
        **{f"L{k}": 1037 for k in range(2, 9)},
        "unseen": 2090,
    }
    assert len({row["participant_id"] for row in rows}) == 10446
    assert (out / "learners.tsv").stat().st_mode & 0o077 == 0
    for name in ("partition.json", "ages.svg"):
        assert "sub-" not in (out / name).read_text()


def test_the_numbers_are_those_of_the_list_and_repeat(monkeypatch, tmp_path, capsys):
    arguments = ("cohort", "partition", "--participants", 200, "--environment", "dirichlet", "--learners", 3)
    assert call(monkeypatch, *arguments, "--json", "-o", tmp_path / "a") == 0
    first = capsys.readouterr().out
    assert call(monkeypatch, *arguments, "--json") == 0
    assert capsys.readouterr().out == first
    record = json.loads(first)
    counts = Counter(row["learner"] for row in rows_of(tmp_path / "a"))
    assert {g["name"]: g["participants"] for g in (*record["learners"], record["unseen"])} == counts
    assert record == json.loads((tmp_path / "a" / "partition.json").read_text())
    assert record["settings"]["environment"] == "dirichlet"


def test_a_real_cohort_is_divided_by_site_and_whoever_is_left_out_is_named_so(monkeypatch, tmp_path, capsys):
    folder = write_bids(tmp_path / "study", [f"{k:02d}" for k in range(24)])
    arguments = ("cohort", "partition", "--cohort", folder, "--unseen", 0.1)
    assert call(monkeypatch, *arguments, "--environment", "site") == 0
    lines = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert lines == [["A", "10"], ["B", "10"], ["unseen", "4"]]
    assert call(monkeypatch, *arguments, "--sizes", "5,6", "-o", tmp_path / "out") == 0
    counts = Counter(row["learner"] for row in rows_of(tmp_path / "out"))
    assert counts == {"L1": 6, "L2": 5, "unseen": 3, "n/a": 10}
    assert "left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs one cohort, got none. Give either --cohort DIR or --participants N"),
        (["--participants", 9, "--cohort", "x"], "needs one cohort, got two"),
        (["--participants", 90, "--environment", "skewed", "--unseen", 1], "2 found"),
        (["--participants", 90, "--sizes", "5,x"], "sizes.1"),
        (["--participants", 90, "--sizes", "5,6", "--learners", 3], "3 learners need as many sizes, got 2"),
        (["--participants", 90, "--environment", "site", "--sizes", "5"], "sizes are those of the sites"),
        (["--participants", 90, "--sizes", "50,40"], "sizes that sum to 90 of 72 participants"),
        (["--participants", 20, "--environment", "site"], "got fewer at"),
    ],
)
def test_what_cannot_be_divided_is_explained(monkeypatch, capsys, arguments, message):
    assert call(monkeypatch, "cohort", "partition", *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_partition_is_not_written_over(monkeypatch, tmp_path, capsys):
    arguments = ("cohort", "partition", "--participants", 40, "--learners", 2, "-o", tmp_path)
    assert call(monkeypatch, *arguments) == 0
    assert call(monkeypatch, *arguments) == 2
    assert "folder of its own" in capsys.readouterr().err
