"""Learners that fail, diverge, lie or stay away: the round goes on and says who was missing."""

import numpy as np
import pytest
import torch

from privoxel.errors import FederationError
from tests.federations import LEARNERS, Spoiled, a_job, conduct, federate, flower, weights

SOUTH = set(LEARNERS[1].rows.tolist())


def spoil_south(change):
    return Spoiled(lambda rows, volumes: change(volumes) if SOUTH & set(rows.tolist()) else volumes)


def failing(volumes):
    raise OSError("the disk is gone")


def test_an_absent_learner_is_skipped_and_comes_back(tmp_path):
    federation = federate(
        tmp_path, a_job(rounds=4, absent={2: ("north",), 3: ("north", "west")}, curious=True)
    )
    took_part = [entry.took_part for entry in federation.participation]
    assert took_part == [
        ("north", "south", "west"),
        ("south", "west"),
        ("south",),
        ("north", "south", "west"),
    ]
    assert federation.participation[2].absent == ("north", "west")
    assert (2, "north") not in federation.updates
    assert torch.equal(weights(federation.rounds[3]), weights(federation.updates[3, "south"]))


def test_updates_that_are_not_finite_are_rejected_and_named_and_the_round_goes_on(tmp_path):
    cohort = spoil_south(lambda volumes: volumes * np.float32(np.nan))
    federation = federate(tmp_path, a_job(rounds=2), cohort=cohort)
    for entry in federation.participation:
        assert entry.took_part == ("north", "west")
        assert entry.rejected["south"].startswith("its update is not finite (conv1.weight")
    without = federate(tmp_path / "w", a_job(rounds=2, absent={1: ("south",), 2: ("south",)}))
    assert torch.equal(weights(federation.rounds[-1]), weights(without.rounds[-1]))


def test_a_learner_that_crashes_is_named_with_its_reason_and_the_round_goes_on(tmp_path):
    federation = federate(tmp_path, a_job(rounds=1), cohort=spoil_south(failing))
    entry = federation.participation[0]
    assert entry.took_part == ("north", "west")
    assert entry.failed == {"south": "OSError: the disk is gone"}
    assert entry.left_out() == "south (OSError: the disk is gone)"


def test_a_federation_in_which_every_learner_fails_ends_and_names_them(tmp_path):
    calls = iter(range(1000))

    def fail_in_round_two(rows, volumes):
        return volumes if next(calls) < 18 else failing(volumes)

    with pytest.raises(FederationError) as caught:
        federate(tmp_path, a_job(rounds=3), cohort=Spoiled(fail_in_round_two))
    message = str(caught.value)
    assert (
        "Round 2 needs usable updates of at least 1 learners, got 0; without one: north (OSError" in message
    )
    assert "south (OSError" in message
    assert "west (OSError" in message
    resumed = federate(tmp_path, a_job(rounds=3))
    assert torch.equal(weights(resumed.rounds[-1]), weights(federate(tmp_path / "whole").rounds[-1]))


def test_a_round_in_which_every_learner_is_away_ends_the_federation(tmp_path):
    everyone = tuple(learner.name for learner in LEARNERS)
    with pytest.raises(FederationError, match=r"Round 2 .* without one: north \(absent\), south \(absent\)"):
        federate(tmp_path, a_job(absent={2: everyone}))


def test_fewer_learners_than_the_minimum_end_the_federation(tmp_path):
    with pytest.raises(FederationError, match=r"at least 3 learners, got 2; without one: south \(OSError"):
        federate(tmp_path, a_job(minimum_learners=3), cohort=spoil_south(failing))


def test_replies_of_another_model_or_of_impossible_counts_are_rejected(tmp_path):
    def lie(reply, learner):
        if learner == "south":
            reply.content["arrays"].pop("output.bias")
        if learner == "west":
            reply.content["metrics"]["num-examples"] = -4
        return reply

    (entry,) = conduct(lie, a_job(rounds=1), tmp_path).participation
    assert entry.took_part == ("north",)
    assert entry.rejected == {
        "south": "its weights are those of another model",
        "west": "it counts -4 scans",
    }


def test_the_mean_does_not_depend_on_who_answers_first(tmp_path):
    job = a_job(rounds=2)
    ordered = conduct(lambda reply, _: reply, job, tmp_path / "a")
    shuffled = conduct(lambda reply, _: reply, job, tmp_path / "b", reverse=True)
    assert torch.equal(weights(ordered.rounds[-1]), weights(shuffled.rounds[-1]))


def test_a_site_can_keep_what_an_error_says_to_itself(tmp_path):
    (entry,) = conduct(None, a_job(rounds=1), tmp_path, cohort=spoil_south(failing)).participation
    assert entry.failed == {"south": "OSError"}


def test_a_learner_that_goes_offline_in_a_round_is_named(tmp_path):
    """Flower's link answers in its own name for a node that is gone."""

    def go_offline(reply, learner):
        gone = flower.Error(5, "the node is unavailable")
        return flower.Message(gone, reply_to=reply) if learner == "south" else reply

    (entry,) = conduct(go_offline, a_job(rounds=1), tmp_path).participation
    assert entry.took_part == ("north", "west")
    assert entry.failed == {"south": "no answer: the node is unavailable"}


def test_a_learner_that_never_answers_is_named(tmp_path):
    (entry,) = conduct(None, a_job(rounds=1), tmp_path, lost=(3,)).participation
    assert entry.took_part == ("north", "west")
    assert entry.failed == {"south": "no answer"}
