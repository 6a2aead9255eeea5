"""A federation from partition to results, on volumes that a small network learns in seconds."""

import json
from dataclasses import replace

import numpy as np
import pytest

from privoxel.cohort.partitions import UNSEEN
from privoxel.errors import ConfigError, FederationError
from privoxel.evaluation.federation_results import FederationResults
from privoxel.recipes.cohorts import summarise_cohort
from privoxel.recipes.federation.attacking import attack_federation
from privoxel.recipes.federation.concluding import conclude
from privoxel.recipes.federation.observing import watch_federation
from privoxel.recipes.federation.preparing import check_shared_images, victims_of
from privoxel.report.federation import render_federation
from privoxel.signals.table import PREDICTION, Membership
from privoxel.training.federated.privacy import SecureAggregation
from tests.federation_sites import JOB, learning_site

FACTS = {"created": "2026-01-01T00:00:00", "versions": {}, "machine": {}, "seconds": {}}


def concluded(site, *, victims=()):
    watched = watch_federation(site)
    attackers = attack_federation(site, watched)
    controls = [(who, attack_federation(site, watch_federation(site, left_out=who))) for who in victims]
    summary = summarise_cohort(site.cohort, site.folder)
    return conclude(site, watched, attackers, controls, cohort=summary, facts=FACTS)


@pytest.fixture(scope="module")
def curious_site(tmp_path_factory):
    job = replace(JOB, curious=True)
    return learning_site(tmp_path_factory.mktemp("federation") / "run", job=job, active_rounds=1)


@pytest.fixture(scope="module")
def results(curious_site):
    return concluded(curious_site, victims=("L2",))


def test_every_pair_has_an_attack_a_control_and_an_excess(results):
    assert results.has_learned
    of = {matrix.name: matrix for matrix in results.matrices}
    for name in ("set-1", "age", "age-logistic", "covariates", "set-1-excess"):
        filled = [cell is not None for row in of[name].cells for cell in row]
        assert sum(filled) == 3 * 2
        assert of[name].cells[1][1] is None
        assert of[name].mean_all.low <= of[name].mean_all.value <= of[name].mean_all.high


def test_the_excess_is_over_the_strongest_control(results):
    of = {matrix.name: matrix for matrix in results.matrices}
    best = max((of[name] for name in ("age", "age-logistic", "covariates")), key=lambda m: m.mean_all.value)
    assert of["set-1-excess"].mean_all.value == pytest.approx(
        of["set-1"].mean_all.value - best.mean_all.value
    )


def test_the_excess_of_sets_not_chosen_beforehand_has_an_interval_widened_for_their_number(tmp_path):
    site = learning_site(tmp_path / "run", job=JOB, active_rounds=0)
    settings = site.config.attack.model_copy(update={"sets": (1, 2, 3), "by_round": 0})
    site = replace(site, config=site.config.model_copy(update={"attack": settings}))
    of = {matrix.name: matrix.mean_all for matrix in concluded(site).matrices}
    assert of["set-1-matched-excess"].level == 0.95
    assert of["set-2-matched-excess"].level == of["set-3-matched-excess"].level == 0.975


def test_every_round_is_attacked_and_its_errors_are_kept(results):
    assert [point.round for point in results.by_round] == [1, 2, 3, 4]
    assert [entry.number for entry in results.rounds] == [1, 2, 3, 4]
    assert all(entry.test_mae is not None for entry in results.rounds)


def test_the_victim_that_was_left_out_stands_beside_itself(results):
    (one,) = results.left_out
    assert one.victim == "L2"
    assert one.excess.value == pytest.approx(one.attack.value - one.without.value)


def test_the_curious_server_and_the_active_learner_have_rows(results):
    threats = {row.threat_model for row in results.further}
    assert any("curious server" in threat for threat in threats)
    assert any("active learner" in threat for threat in threats)
    names = {row.name for row in results.further}
    assert {"FedMIA-on-cosines", "site-attribution", "Gradient-update-cosine"} <= names


def test_signals_of_a_snapshot_and_scan_are_extracted_once(curious_site, results):
    before = {p: p.stat().st_mtime_ns for p in (curious_site.folder.path / "signals").rglob("*.npy")}
    again = concluded(curious_site, victims=("L2",))
    after = {p: p.stat().st_mtime_ns for p in (curious_site.folder.path / "signals").rglob("*.npy")}
    assert before == after
    assert again.matrices == results.matrices


def test_learners_are_members_and_nobody_else(curious_site, results):
    table = watch_federation(curious_site).table
    states = table.membership[0]
    assert (states[curious_site.members] == Membership.MEMBER).all()
    assert (states[curious_site.partition.rows(curious_site.cohort, UNSEEN)] == Membership.NON_MEMBER).all()
    assert PREDICTION in table.values


def test_the_report_tells_attack_control_and_equal_ages(results):
    page = render_federation(results)
    for text in ("Strongest control", "Equal ages", "took no part", "FedMIA", "Not a legal finding"):
        assert text in page
    for placeholder in ("TODO", "None", "nan", "Undefined"):
        assert placeholder not in page


def test_results_survive_their_file(results):
    stored = json.loads(results.model_dump_json())
    assert FederationResults.model_validate(stored) == results


def test_an_untrained_federation_shows_no_privacy_number(tmp_path):
    job = replace(JOB, rounds=1, local_epochs=1, learning_rate=1e-9)
    found = concluded(learning_site(tmp_path / "run", job=job))
    assert not found.has_learned
    assert found.matrices == []
    assert "has not clearly learned" in render_federation(found)


def test_secure_aggregation_leaves_the_curious_server_nothing(tmp_path):
    job = replace(JOB, curious=True, privacy=SecureAggregation(largest_update=2.0))
    found = concluded(learning_site(tmp_path / "run", job=job, by_round=0))
    (row,) = [row for row in found.further if "curious server" in row.threat_model]
    assert row.metrics == {}
    assert "no learner's update" in row.note


def test_one_person_at_two_learners_is_found_by_the_image(tmp_path):
    site = learning_site(tmp_path / "run")
    values = site.cohort.source.values.copy()
    here, there = site.rows("L1")[0], site.rows("L3")[0]
    values[there] = values[here]
    cohort = replace(site.cohort, source=replace(site.cohort.source, values=values))
    with pytest.raises(FederationError, match=r"same image twice: 1 at L1 and L3"):
        check_shared_images(cohort, site.partition)
    check_shared_images(site.cohort, site.partition)


def test_victims_are_one_all_none_or_named(tmp_path):
    for asked, expected in (("none", 0), ("one", 1), ("all", 3), (("L3",), 1)):
        site = learning_site(tmp_path / str(asked), left_out=asked)
        assert len(victims_of(site.config, site.partition)) == expected
    with pytest.raises(ConfigError, match=r"left_out needs names among L1, L2, L3, got L9"):
        learning_site(tmp_path / "unknown", left_out=("L9",))


def test_sites_share_their_unseen_judges(results):
    assert results.unseen.participants == 30
    assert np.isfinite(results.utility.null)
