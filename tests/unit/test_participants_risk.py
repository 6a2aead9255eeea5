"""The table of everyone's risk, and what of it may be shown."""

import csv
import io
import json
import stat

import numpy as np
import pytest

from privoxel.cohort.base import Covariates, ScanId
from privoxel.cohort.splits import Design
from privoxel.config import ModelConfig, parse_config
from privoxel.evaluation.archive import TargetScores
from privoxel.evaluation.results import Utility
from privoxel.evaluation.scored import Evaluated
from privoxel.recipes.judging import Judged
from privoxel.recipes.risk import SIDECAR, TABLE, assess_risk, write_risk
from privoxel.recipes.target import TargetPlan
from privoxel.store import open_run

PEOPLE = 120
CONFIG = parse_config({})


def cohort() -> Covariates:
    """Two scans a participant; the last ten were scanned elsewhere."""
    rng = np.random.default_rng(0)
    scans = tuple(ScanId(f"{n:03d}", session) for n in range(PEOPLE) for session in ("1", "2"))
    age = np.repeat(rng.uniform(45, 80, PEOPLE).round(1), 2)
    sex = np.repeat(rng.choice(["F", "M"], PEOPLE), 2)
    return Covariates(scans, age, sex, np.repeat(np.where(np.arange(PEOPLE) < 80, "A", "B"), 2))


def target(number: int, *, people: np.ndarray, members: np.ndarray, shift: float = 1.5) -> Judged:
    """One scan each of ``people``; the exposed (codes 0-9) always stand out when they are members."""
    rng = np.random.default_rng(number)
    covariates = cohort()
    age = covariates.age[2 * people]
    error = np.where(members, rng.normal(0, 1, len(people)), rng.normal(0, 4, len(people)))
    score = rng.normal(size=len(people)) + members * (shift + 3 * (people < 10))
    evaluated = Evaluated(score[None], np.zeros(1), members, people)
    scores = TargetScores(
        age, age + error, np.full(len(people), np.nan), members, people, {"abs-error": evaluated}, {}
    )
    plan = TargetPlan(f"cnn3d-{number}", ModelConfig(), Design(("a",), ("b",)), number)
    return Judged(plan, (), Utility(members=1.0, non_members=3.0, null=6.0, gap=2.0), scores, {})


def several(count: int, **settings) -> list[Judged]:
    rng = np.random.default_rng(9)
    found = []
    for number in range(count):
        people = np.sort(rng.permutation(PEOPLE - 6)[:100])
        members = np.isin(people, rng.permutation(people)[:50])
        found.append(target(number, people=people, members=members, **settings))
    return found


def table_of(risk) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(risk.table), delimiter="\t"))


@pytest.fixture(scope="module")
def risk():
    return assess_risk(several(8), cohort(), CONFIG)


def test_everyone_judged_has_one_row_and_nobody_else(risk):
    judged = {f"sub-{n:03d}" for n in np.unique(np.concatenate([j.scores.participants for j in several(8)]))}
    rows = table_of(risk)
    assert {row["participant_id"] for row in rows} == judged
    assert len(rows) == len(judged) < PEOPLE
    for row, one in zip(rows[:3], range(3), strict=True):
        inside = [j.scores.members[j.scores.participants == one] for j in several(8)]
        assert int(row["targets"]) == sum(map(len, inside))
        assert int(row["targets_trained"]) == sum(m.sum() for m in inside)


def test_the_people_who_stand_out_have_the_first_ranks_and_are_stable(risk):
    rows = {row["participant_id"]: row for row in table_of(risk)}
    first = {name for name, row in rows.items() if row["rank"] != "n/a" and int(row["rank"]) <= 10}
    exposed = [f"sub-{n:03d}" for n in range(10) if rows[f"sub-{n:03d}"]["rank"] != "n/a"]
    assert len(first & set(exposed)) >= 8
    assert all(float(rows[name]["called_member"]) == 1.0 for name in exposed)


def test_reasons_are_those_of_the_numbers(risk):
    rows = table_of(risk)
    ages = np.array([float(row["age"]) for row in rows])
    low, high = np.quantile(ages, [0.025, 0.975])
    for row, age in zip(rows, ages, strict=True):
        assert ("age-outlier" in row["reasons"]) == bool(age < low or age > high)
    unseen = np.array([float(r["error_non_member"]) for r in rows if r["error_non_member"] != "n/a"])
    limit = np.quantile(unseen, 0.95)
    for row in rows:
        hard = row["error_non_member"] != "n/a" and float(row["error_non_member"]) > limit + 1e-3
        assert not hard or "hard-when-unseen" in row["reasons"]


def test_the_summary_names_nobody_and_shows_no_small_group(risk):
    (summary,) = risk.summaries
    text = summary.model_dump_json()
    assert "sub-" not in text
    assert min(line.participants for line in summary.groups) >= 5
    assert min(one.participants for one in summary.reliability) >= 5
    assert min(one.participants for one in summary.drivers) >= 5
    assert summary.mean_members > 0.6
    assert summary.mean_non_members < 0.4
    assert summary.sd_over_targets is not None


def test_groups_hold_every_member_once(risk):
    (summary,) = risk.summaries
    members = sum(row["rank"] != "n/a" for row in table_of(risk))
    assert sum(line.participants for line in summary.groups) == members == summary.n_members


def test_larger_groups_on_request():
    config = parse_config({"report": {"smallest_group": 20}})
    (summary,) = assess_risk(several(2), cohort(), config).summaries
    assert min(line.participants for line in summary.groups) >= 20


def test_too_few_people_give_a_table_without_probabilities_and_say_so():
    people = np.arange(8)
    few = target(1, people=people, members=people < 4)
    found = assess_risk([few], cohort(), CONFIG)
    assert "too few" in found.summaries[0].reason
    assert found.summaries[0].groups == []
    assert {row["probability_member"] for row in table_of(found)} == {"n/a"}
    assert all(row["error_member"] != "n/a" for row in table_of(found)[:4])


def test_the_table_is_its_owners_alone_and_every_column_is_described(risk, tmp_path):
    folder = open_run(tmp_path / "run", {}, resume=False, facts={})
    write_risk(risk, folder)
    path = folder.path / TABLE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    described = json.loads((folder.path / SIDECAR).read_text())
    assert "NOT FOR RELEASE" in described["MeasurementToolMetadata"]["Description"]
    header = path.read_text().splitlines()[0].split("\t")
    assert header == [name for name in described if name != "MeasurementToolMetadata"]
    assert all("Description" in described[name] for name in header)
    assert described["age"]["Units"] == "year"
