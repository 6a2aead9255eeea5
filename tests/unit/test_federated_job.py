import importlib.util
import json

import numpy as np
import pytest

from privoxel.errors import ConfigError, FederationError
from privoxel.training.federated import require_flower
from privoxel.training.federated.job import FederationJob, Learner, check_learners, job_of
from privoxel.training.federated.privacy import CentralPrivacy, LocalPrivacy, SecureAggregation
from tests.conftest import make_cohort

COHORT = make_cohort(12, sessions=2)
JOB = FederationJob()


def at(name, *rows):
    return Learner(name, np.array(rows, dtype=np.int64))


def test_the_defaults_are_those_of_the_paper():
    settings = (JOB.rounds, JOB.local_epochs, JOB.learning_rate, JOB.batch_size, JOB.optimiser, JOB.strategy)
    assert settings == (25, 4, 5e-5, 1, "sgd", "fedavg")
    assert JOB.weighted


def test_every_wrong_setting_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        FederationJob(rounds=0, learning_rate=float("inf"), optimiser="lbfgs", strategy="krum", server_tau=0)
    message = str(caught.value)
    for part in (
        "rounds needs 1 or more, got 0",
        "learning_rate needs a finite number above 0, got inf",
        "optimiser needs one of sgd, adam, got 'lbfgs'",
        "strategy needs one of fedavg, fedprox, fedadam, got 'krum'",
        "server_tau needs a finite number above 0, got 0",
        "Correct these settings.",
    ):
        assert part in message


def test_a_proximal_weight_belongs_to_fedprox_alone():
    with pytest.raises(
        ConfigError, match=r"proximal_mu needs a number above 0 with fedprox.*got 0.0 with fedprox"
    ):
        FederationJob(strategy="fedprox")
    with pytest.raises(ConfigError, match=r"got 0.1 with fedavg"):
        FederationJob(proximal_mu=0.1)


def test_central_privacy_refuses_a_weighted_mean():
    with pytest.raises(ConfigError, match=r"central privacy needs weighted = false"):
        FederationJob(privacy=CentralPrivacy(1.0, 0.5))
    FederationJob(privacy=CentralPrivacy(1.0, 0.5), weighted=False)


def test_wrong_privacy_settings_are_named():
    with pytest.raises(
        ConfigError, match=r"clipping_norm needs a number above 0, got -1.*epsilon.*delta needs"
    ):
        FederationJob(privacy=LocalPrivacy(-1, 0, 2))


def test_a_learner_without_scans_is_named():
    with pytest.raises(FederationError, match=r"every learner needs scans, got none at b, d\. Give it scans"):
        check_learners([at("a", 0, 1), at("b"), at("c", 2, 3), at("d")], COHORT, JOB)


def test_participants_at_two_learners_are_counted_and_not_named():
    learners = [at("a", 0, 2, 4), at("b", 1, 3, 6), at("c", 7, 8)]
    with pytest.raises(FederationError) as caught:
        check_learners(learners, COHORT, JOB)
    assert "got participants at two: 2 at a and b, 1 at b and c. Leave them to one learner" in str(
        caught.value
    )
    assert not any(name in str(caught.value) for name in COHORT.covariates.participants)


def test_all_faults_of_learners_are_told_at_once():
    learners = [at("../up", 0, 1), at("b", 2, 99), at("b", 4, 5)]
    job = FederationJob(minimum_learners=4, absent={2: ("nobody",)})
    with pytest.raises(FederationError) as caught:
        check_learners(learners, COHORT, job)
    message = str(caught.value)
    for part in (
        "got '../up'. Rename",
        "got b more than once",
        "needs at least 4 learners, got 3",
        "absent needs names of learners, got nobody",
        "rows need to be 0 to 23, got others at b",
    ):
        assert part in message


def test_a_scan_twice_at_one_learner_is_refused():
    with pytest.raises(FederationError, match=r"needs each scan once, got one twice at a\."):
        check_learners([at("a", 0, 1, 0)], COHORT, JOB)


def test_adaptive_clipping_with_too_much_noise_for_its_count_is_refused_with_the_remedy():
    privacy = CentralPrivacy(1.0, 0.5, clipping="adaptive")
    job = FederationJob(weighted=False, privacy=privacy)
    with pytest.raises(FederationError, match=r"got 1.0 with 2 learners\. Set count_sd above 0.5"):
        check_learners([at("a", 0, 1), at("b", 2)], COHORT, job)


@pytest.mark.parametrize(
    "job",
    [
        FederationJob(),
        FederationJob(
            strategy="fedadam", weighted=False, absent={3: ("a", "b")}, privacy=CentralPrivacy(1.0, 0.5)
        ),
        FederationJob(strategy="fedprox", proximal_mu=0.1, privacy=SecureAggregation(2.0)),
    ],
)
def test_a_job_comes_back_from_the_plain_values_that_describe_it(job):
    assert job_of(json.loads(json.dumps(job.to_dict()))) == job


def test_unknown_settings_are_refused():
    with pytest.raises(ConfigError, match=r"cannot be used, got: .*'epochs'"):
        job_of({"epochs": 3})
    with pytest.raises(ConfigError, match=r"cannot be used, got: 'Magic'"):
        job_of({"privacy": {"kind": "Magic"}})


def test_a_missing_flower_is_told_with_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(FederationError, match=r"got no flwr\. Install privoxel\[fl\]"):
        require_flower()
