"""Scores of every attack on every target, level and leak: kept as they come, none computed twice."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, final

import numpy as np

from comparison.machines import MACHINES
from comparison.observing import opened, own_name, predictions
from comparison.settings import LEVELS, Network
from comparison.training import Bench, untrained
from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.attacks import get_attack
from privoxel.attacks.base import Attack, Knowledge, needs_one_shadow
from privoxel.attacks.paper import ActivationAttack, EncoderAttack
from privoxel.attacks.shadow_transfer import ShadowTransfer
from privoxel.cohort.base import Cohort
from privoxel.recipes.target import with_tail
from privoxel.signals.table import PREDICTION, LazyArray, SignalTable
from privoxel.store import atomic_path
from privoxel.training.loop import load_weights

TRANSFERRED = ("prediction-label-svm", "combined-svm")
"""Machines that are fitted to one shadow too, as the paper's encoders of these features are."""


WITHOUT = "~"
"""Separates an attack's name from the model that it has to do without."""


class Cell(NamedTuple):
    """One trained target at one level and what is leaked of it (people of each class)."""

    network: Network
    number: int
    level: str
    leaked: int

    @property
    def name(self) -> str:
        """Name of the file of its scores."""
        return f"{self.network.model.name}-{self.level}-{self.leaked}-{self.number}"


class Asked(NamedTuple):
    """A score to compute: the attack, and the name under which it is kept.

    ``without``: the reference that the attack has to do without, to see how much hangs on it.
    """

    name: str
    attack: Attack
    group: str
    without: int | None = None

    @property
    def is_encoder(self) -> bool:
        """Whether a network is trained for it, which takes most of the time."""
        classifier = getattr(self.attack, "classifier", self.attack)
        return isinstance(classifier, EncoderAttack | ActivationAttack)


def cells(bench: Bench) -> Iterator[Cell]:
    """Yield every cell; 0 leaked is the adversary who knows nobody."""
    settings = bench.settings
    for number in range(settings.trainings.targets):
        for network in settings.networks:
            for level in LEVELS:
                for leaked in (*settings.attacks.leaked, 0):
                    yield Cell(network, number, level, leaked)


def asked(bench: Bench, leaked: int) -> Iterator[Asked]:
    """Yield what is computed in a cell with so many leaked people."""
    attacks = bench.settings.attacks
    if leaked:
        for name in attacks.shadow_free:
            yield Asked(name, get_attack(name), "shadow-free")
        for machine in MACHINES:
            yield Asked(f"paper:{machine.name}", machine, "shadow-free")
    for name in (*attacks.with_references, *(attacks.with_both if leaked else ())):
        yield from each_left_out(Asked(name, get_attack(name), "references"), bench)
    for name in attacks.with_shadows:
        yield Asked(name, get_attack(name), "shadows")
    if not leaked:
        yield Asked("abs-error", Unfitted(), "shadow-free")
        transfers = [get_attack(name) for name in attacks.one_shadow]
        transfers += [ShadowTransfer(m) for m in MACHINES if transfers and m.name in TRANSFERRED]
        for transfer in transfers:
            yield Asked(f"{transfer.name}:outside", transfer, "shadow-outside")
            yield Asked(f"{transfer.name}:inside", transfer, "shadow-inside")


def each_left_out(one: Asked, bench: Bench) -> Iterator[Asked]:
    """Yield the score, and those without each reference, which targets share.

    Shadows are shared as well; without one of them somebody would be inside a single one, too few to attack.
    """
    yield one
    for k in range(bench.settings.trainings.references):
        yield one._replace(name=f"{one.name}{WITHOUT}{one.group}-{k}", without=k)


@final
@dataclass(frozen=True)
class Unfitted:
    """−|error| for who knows nobody's membership: the order of the threshold attack, which needs no fit."""

    def score(
        self,
        target: SignalTable,
        knowledge: Knowledge,  # noqa: ARG002 - nothing is known
        rng: np.random.Generator,  # noqa: ARG002 - nothing is random
    ) -> "Sizes":
        """Return −|error| (years)."""
        return Sizes(-np.abs(target.error()))


class Sizes(NamedTuple):
    """Scores without a threshold."""

    scores: FloatArray


@final
@dataclass(frozen=True)
class Seen:
    """Everything on disk about one network at one level, as tables."""

    bench: Bench
    network: Network
    level: str

    def target(self, number: int) -> SignalTable:
        """Return all signals of the pool as the target gives them."""
        groups = self.bench.groups
        return self._table(f"target-{number}", groups.pool, groups.target(number, 1).members)

    def unseen(self, number: int) -> SignalTable:
        """Return the people that nobody trained on, as the target gives them."""
        rows = self.bench.groups.unseen
        return self._table(f"target-{number}-unseen", rows, np.zeros(len(rows), dtype=np.bool_))

    def references(self, number: int, without: int | None = None) -> SignalTable:
        """Return a target's references on pool and unseen people; all are outside of all."""
        kept = [k for k in self.bench.groups.references_of(number) if k != without]
        rows = np.concatenate([self.bench.groups.pool, self.bench.groups.unseen])
        return self._models("references", rows, np.zeros((len(kept), len(rows))), kept)

    def shadows(self) -> SignalTable:
        """Return the shadows on the pool."""
        inside = self.bench.groups.shadows()
        return self._models("shadows", self.bench.groups.pool, inside, range(len(inside)))

    def own_people(self, reference: int) -> SignalTable:
        """Return a reference on the people outside the pool, half of whom trained it."""
        outside = self.bench.groups.outside
        inside = np.isin(outside, self.bench.groups.reference(reference))
        return self._table(own_name(f"reference-{reference}"), outside, inside)

    def one_shadow(self, group: str, number: int) -> SignalTable:
        """Return the target's first reference on its own people, or a shadow of its own on the pool."""
        if group == "shadow-outside":
            return self.own_people(int(self.bench.groups.references_of(number)[0]))
        shadow = number % self.bench.settings.trainings.shadows
        rows = self.bench.groups.own_people(shadow)
        return self._table(own_name(f"shadow-{shadow}"), rows, self.bench.groups.shadows()[shadow, rows])

    @property
    def _folder(self) -> Path:
        return self.bench.output / "signals" / self.network.model.name

    def _table(self, name: str, rows: FloatArray, members: BoolArray) -> SignalTable:
        return opened(self._folder / name, self.level, self._cohort(rows).covariates, members)

    def _models(self, name: str, rows: IntArray, inside: FloatArray, kept: Sequence[int]) -> SignalTable:
        values = predictions(self._folder / name, self.level)[list(kept)]
        models = tuple(f"{name}-{k}" for k in kept)
        return SignalTable(
            self._cohort(rows).covariates,
            models,
            ("last",),
            inside.astype(np.int8),
            {PREDICTION: LazyArray(values[:, None])},
        )

    def _cohort(self, rows: FloatArray) -> Cohort:
        return self.bench.cohort.select(rows)


def score_all(bench: Bench, *, encoders: bool = False) -> None:
    """Compute every score that is missing and whose signals are there: networks' apart from all others'."""
    for cell in cells(bench):
        path = bench.output / "scores" / f"{cell.name}.npz"
        known = read_scores(path)
        try:
            fresh, seconds = _score_cell(cell, bench, known, encoders)
        except FileNotFoundError as error:
            print(f"{cell.name}: waits for {error.filename}", flush=True)
            continue
        if fresh:
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **{**known, **fresh})
        print(f"{cell.name}: {len(fresh)} new scores, {seconds:.0f} s", flush=True)


def read_scores(path: Path) -> dict[str, FloatArray]:
    """Return scores by attack of a cell's file; nothing if there is none."""
    if not path.exists():
        return {}
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def _score_cell(
    cell: Cell, bench: Bench, known: Mapping[str, FloatArray], encoders: bool
) -> tuple[dict[str, FloatArray], float]:
    started = time.perf_counter()
    seen = Seen(bench, cell.network, cell.level)
    wanted = [
        one
        for one in asked(bench, cell.leaked)
        if (one.name not in known or one.name in bench.again) and one.is_encoder == encoders
    ]
    if not wanted:
        return {}, 0.0
    draw = bench.groups.target(cell.number, cell.leaked)
    table = seen.target(cell.number)
    judged = table.select(draw.judged).blinded()
    leaked = table.select(draw.leaked) if cell.leaked else None
    fresh = {}
    for one in wanted:
        if one.without not in (None, *bench.groups.references_of(cell.number)):
            continue
        try:
            knowledge = _knowledge(one, leaked, seen, cell)
        except FileNotFoundError:
            continue
        if table.missing(getattr(one.attack, "requires", ())):
            continue
        rng = bench.groups.streams.child(cell.name).generator(one.name.partition(WITHOUT)[0])
        began = time.perf_counter()
        attack = _with_tail(one.attack, cell, bench)
        fresh[one.name] = np.asarray(attack.score(judged, knowledge, rng).scores)
        print(f"  {cell.name} {one.name} {time.perf_counter() - began:.2f} s", flush=True)
    return fresh, time.perf_counter() - started


def _knowledge(one: Asked, leaked: SignalTable | None, seen: Seen, cell: Cell) -> Knowledge:
    if one.group == "shadow-free":
        return Knowledge(leaked=leaked)
    if needs_one_shadow(one.attack):
        return Knowledge(models=seen.one_shadow(one.group, cell.number))
    if one.group == "shadows":
        return Knowledge(leaked=leaked, models=seen.shadows())
    models, unseen = seen.references(cell.number, one.without), seen.unseen(cell.number)
    return Knowledge(leaked=leaked, models=models, population=unseen)


def _with_tail(attack: Attack, cell: Cell, bench: Bench) -> Attack:
    if getattr(attack, "name", "") != "activation":
        return attack
    model = untrained(cell.network, bench.cohort, bench.groups.pool, bench.groups.streams)
    name = f"{cell.network.model.name}/target-{cell.number}"
    load_weights(model, bench.snapshot(name, cell.network, cell.level))
    return with_tail(attack, model)
