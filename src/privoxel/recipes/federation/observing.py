"""One federation: its learners train, and every kept round's model is watched on every scan, once."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
from torch import Tensor

from privoxel.arrays import FloatArray, IntArray
from privoxel.attacks.federated import FEATURE_SETS
from privoxel.cohort.base import Cohort
from privoxel.cohort.partitions import UNSEEN, Partition
from privoxel.models import build_model, spec_of
from privoxel.models.base import AuditableModel
from privoxel.progress import Progress
from privoxel.recipes.federation.settings import FederateConfig
from privoxel.recipes.target import given_by
from privoxel.seeding import Streams
from privoxel.signals.extract import Extraction, extract, open_table
from privoxel.signals.table import GRADIENT, GRADIENT_NORMS, PREDICTION, Membership, SignalTable
from privoxel.store import RunFolder
from privoxel.training.federated.job import FederationJob, Learner
from privoxel.training.federated.ledger import Federation, Round
from privoxel.training.federated.run import run_federation
from privoxel.training.runtime import Runtime


@final
@dataclass(frozen=True)
class Site:
    """What the federations of a run share: settings, scans, who holds which, and where things go."""

    config: FederateConfig
    cohort: Cohort
    partition: Partition
    folder: RunFolder
    runtime: Runtime
    progress: Progress
    workers: int = 1

    @property
    def streams(self) -> Streams:
        """The run's randomness."""
        return Streams(self.config.seed)

    def rows(self, learner: str) -> IntArray:
        """Return the scans that ``learner`` trains on."""
        return self.partition.rows(self.cohort, learner)

    @property
    def unseen(self) -> IntArray:
        """Scans of participants that no learner holds."""
        return self.partition.rows(self.cohort, UNSEEN)

    @property
    def members(self) -> IntArray:
        """Scans of all learners, in cohort order."""
        return self.cohort.rows_of([who for group in self.partition.groups for who in group])


class Watched(NamedTuple):
    """A trained federation and its signals: snapshots are the ends of ``rounds``, scans the whole cohort.

    ``models`` are the files of all community models, the initial one first; ``updates`` those of local models
    by (round, learner), where the server kept them. ``left_out`` names the learner that took no part, if any.
    """

    left_out: str
    rounds: tuple[int, ...]
    participation: tuple[Round, ...]
    updates: Mapping[tuple[int, str], Path]
    models: tuple[Path, ...]
    table: SignalTable

    def absolute_error(self, rows: IntArray, place: int = -1) -> FloatArray:
        """Return |prediction − age| (years) of the scans at ``rows`` after the round at ``place``."""
        return np.asarray(np.abs(self.table.error(snapshot=place)[rows]))


def watch_federation(site: Site, *, left_out: str = "") -> Watched:
    """Train the federation of ``site`` without ``left_out``, and extract what its learners can see."""
    name = f"without-{left_out}" if left_out else "federation"
    learners = [Learner(who, site.rows(who)) for who in site.partition.learners if who != left_out]
    build = builder(site)
    federation = _trained(site, name, learners, build)
    rounds = _kept_rounds(site.config, len(federation.participation), is_control=bool(left_out))
    model = build()
    wanted = signals_of(model, site.config.signals.extra)
    paths = [federation.rounds[number] for number in rounds]
    table = extract_signals(site, name, paths, wanted)
    membership = _membership(site, learners)
    return Watched(
        left_out,
        rounds,
        federation.participation,
        federation.updates,
        federation.rounds,
        replace(table, membership=membership[None]),
    )


def extract_signals(
    site: Site,
    name: str,
    snapshots: Sequence[Path],
    wanted: tuple[str, ...],
    directions: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> SignalTable:
    """Return the signals of every scan of the cohort for each snapshot, computed once and then read.

    ``name`` names their folder; ``directions`` are those of ``product:`` signals. It has no membership yet.
    """
    folder, step = site.folder.path / "signals" / name, f"{name}/signals"
    if not site.folder.done(step):
        shutil.rmtree(folder, ignore_errors=True)
        model = builder(site)()
        site.runtime.place(model)
        settings = site.config.signals
        extraction = Extraction(
            wanted,
            settings.batch_size,
            site.runtime,
            settings.memory_bytes,
            bfloat16=settings.precision == "bfloat16",
            directions=directions or {},
        )
        found = extract(model, snapshots, site.cohort, extraction, folder=folder, progress=site.progress)
        site.folder.finish(
            step,
            tensors=list(found.tensors),
            clipped=found.clipped,
            batch_size=found.batch_size,
            bytes_per_scan=found.bytes_per_scan,
            fallbacks=found.fallbacks,
        )
    return open_table(
        folder,
        covariates=site.cohort.covariates,
        model=site.config.model.name,
        snapshots=[path.stem for path in snapshots],
        membership=np.full(len(site.cohort), Membership.EXCLUDED, dtype=np.int8),
        tensors=tuple(site.folder.manifest["steps"][step]["tensors"]),
    )


def signals_of(model: AuditableModel, extra: Sequence[str] = ()) -> tuple[str, ...]:
    """Return what the three feature sets of the paper read of ``model``, and ``extra``."""
    wanted = {PREDICTION, GRADIENT_NORMS, *(f"{GRADIENT}{layer}" for layer in (model.last_conv, "output"))}
    wanted |= given_by(model, FEATURE_SETS[-1].uses)
    return tuple(sorted(wanted | set(extra)))


def builder(site: Site) -> "partial[AuditableModel]":
    """Return what makes the initial network, the same for a federation without one of the learners."""
    ages = site.cohort.covariates.age[site.members]
    seed = site.streams.child("federation").seed("initialisation")
    return partial(build_model, spec_of(site.config.model), site.cohort.grid.shape, float(ages.mean()), seed)


def job_of_site(site: Site) -> FederationJob:
    """Return the run's training job; the scaled head trains in units of the age SD."""
    job = site.config.federation
    if site.config.model.head != "scaled":
        return job
    return replace(job, loss_scale=float(np.var(site.cohort.covariates.age[site.members])))


def _trained(
    site: Site, name: str, learners: Sequence[Learner], build: "partial[AuditableModel]"
) -> Federation:
    job, there = job_of_site(site), {learner.name for learner in learners}
    absent = {number: tuple(who for who in away if who in there) for number, away in job.absent.items()}
    return run_federation(
        build,
        site.cohort,
        learners,
        replace(job, absent=absent),
        folder=site.folder.path / name,
        streams=site.streams.child("federation"),
        runtime=site.runtime,
        progress=site.progress,
        engine=site.config.engine,
    )


def _kept_rounds(config: FederateConfig, rounds: int, *, is_control: bool) -> tuple[int, ...]:
    """Return the rounds whose models are watched: all, or the last ones that the attack averages."""
    count = rounds if config.attack.by_round and not is_control else min(config.attack.rounds, rounds)
    return tuple(range(rounds - count + 1, rounds + 1))


def _membership(site: Site, learners: Sequence[Learner]) -> "np.ndarray[tuple[int], np.dtype[np.int8]]":
    states = np.full(len(site.cohort), Membership.EXCLUDED, dtype=np.int8)
    states[site.unseen] = Membership.NON_MEMBER
    for learner in learners:
        states[learner.rows] = Membership.MEMBER
    return states
