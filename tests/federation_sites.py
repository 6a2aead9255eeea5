"""A federation of three learners on tiny volumes that a small network learns in seconds."""

from privoxel.config import CohortConfig, ModelConfig, PartitionConfig
from privoxel.progress import Silent
from privoxel.recipes.federation.observing import Site
from privoxel.recipes.federation.preparing import partition_of
from privoxel.recipes.federation.settings import ControlConfig, FederateConfig, LearnerAttackConfig
from privoxel.store import open_run
from privoxel.training.federated.job import FederationJob
from privoxel.training.runtime import Runtime
from tests.conftest import make_cohort

JOB = FederationJob(rounds=4, local_epochs=5, batch_size=4, learning_rate=3e-3, optimiser="adam")


def learning_site(folder, *, job=JOB, by_round=1, left_out="one", active_rounds=0):
    """Return a site whose federation learns the ages of 75 participants."""
    config = FederateConfig(
        seed=4,
        cohort=CohortConfig(),
        partition=PartitionConfig(learners=3, unseen=0.4),
        model=ModelConfig(width=0.25, head="scaled", dropout=0.0),
        federation=job,
        attack=LearnerAttackConfig(
            sets=(1,), primary=1, rounds=2, by_round=by_round, active_rounds=active_rounds
        ),
        controls=ControlConfig(left_out=left_out),
    )
    cohort = make_cohort(75)
    run = open_run(folder, {"config": config.to_dict()}, resume=True, facts={})
    partition = partition_of(config, cohort.covariates)
    return Site(config, cohort, partition, run, Runtime(), Silent())
