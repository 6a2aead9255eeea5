"""Small federations for tests: three learners of unequal sizes on random volumes."""

import importlib
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from privoxel.models import ModelSpec, build_model
from privoxel.progress import Silent
from privoxel.seeding import Streams
from privoxel.training.federated.job import FederationJob, Learner
from privoxel.training.runtime import Runtime
from tests.conftest import make_cohort

run = pytest.importorskip("privoxel.training.federated.run", reason="flwr is an extra", exc_type=ImportError)
flower = importlib.import_module("flwr.app")
roster = importlib.import_module("privoxel.training.federated.roster")
COHORT = make_cohort(20)
LEARNERS = (
    Learner("north", np.arange(0, 7)),
    Learner("south", np.arange(7, 10)),
    Learner("west", np.arange(10, 15)),
)
BUILD = partial(build_model, ModelSpec("cnn3d", width=0.125, head="scaled"), COHORT.grid.shape, 62.0, 1)


def a_job(**changes) -> FederationJob:
    settings = {"rounds": 3, "local_epochs": 2, "learning_rate": 3e-4, "batch_size": 2, "loss_scale": 55.0}
    return FederationJob(**{**settings, **changes})


def federate(folder, job=None, **changes):
    arguments = {"build": BUILD, "cohort": COHORT, "learners": LEARNERS, "streams": Streams(5), **changes}
    build, cohort, learners = (arguments.pop(name) for name in ("build", "cohort", "learners"))
    return run.run_federation(build, cohort, learners, job or a_job(), folder=folder, **arguments)


def conduct(change, job, folder, *, reverse=False, cohort=COHORT, expected=None, lost=()):
    """Run a federation whose sites give no reasons and reply to training by ``change(reply, learner)``."""
    sites = run.Sites(cohort, LEARNERS, BUILD, Streams(5), Runtime())
    app = run.client_app(sites.of, job.privacy, tells_reasons=False)

    def changed(message, context):
        reply = app(message, context)
        is_update = message.metadata.message_type == "train" and not reply.has_error()
        return change(reply, sites.of(context).name) if is_update and change else reply

    grid = run.InProcessGrid(changed, run.partitions(LEARNERS))
    send = grid.send_and_receive

    def deliver(messages, **_):
        asked = list(messages)
        is_training = any(message.metadata.message_type == "train" for message in asked)
        kept = [m for m in asked if not (is_training and m.metadata.dst_node_id in lost)]
        return list(send(kept))[:: -1 if reverse else 1]

    grid.send_and_receive = deliver
    names = expected or tuple(learner.name for learner in LEARNERS)
    server = run.Server(job, names, BUILD, folder, Streams(5).child("server"), Silent(), {})
    with run.server_identity():
        return server.conduct(grid)


def weights(path) -> torch.Tensor:
    """All tensors of a snapshot in one vector."""
    stored = load_file(path)
    return torch.cat([stored[name].flatten() for name in sorted(stored)])


class Spoiled:
    """A cohort whose volumes go through ``change(rows, volumes)``: faults of a site's data."""

    def __init__(self, change):
        self.change = change
        self.grid, self.covariates, self.fingerprint = COHORT.grid, COHORT.covariates, COHORT.fingerprint

    def __len__(self):
        return len(COHORT)

    def batch(self, rows):
        return self.change(rows, COHORT.batch(rows))
