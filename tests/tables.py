"""Signal tables in memory, with or without a planted membership signal, on unequal sizes."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from privoxel.cohort.base import Covariates, ScanId
from privoxel.signals.table import LazyArray, SignalTable

ZERO_BIASES = (1, 3, 5, 7, 9, 11)


@dataclass(frozen=True)
class Widths:
    """Shapes of the signals: by default a narrow 3D-CNN, all numbers unequal."""

    norms: int = 14
    conv1: tuple[int, ...] = (5, 1, 3, 3, 3)
    conv6: tuple[int, ...] = (6, 11, 1, 1, 1)
    output: tuple[int, ...] = (1, 6, 1, 1, 1)
    hidden: tuple[int, ...] | None = None
    activation: tuple[int, ...] | None = (7, 2, 3, 4)


PAPER_3D = Widths(
    conv1=(32, 1, 3, 3, 3), conv6=(64, 256, 1, 1, 1), output=(1, 64, 1, 1, 1), activation=(256, 2, 3, 2)
)
PAPER_2D = Widths(
    norms=18, conv1=(32, 1, 3, 3), conv6=(64, 256, 1, 1), output=(1, 64), hidden=(64, 32), activation=None
)
DEMO_3D = Widths(
    conv1=(8, 1, 3, 3, 3), conv6=(16, 64, 1, 1, 1), output=(1, 16, 1, 1, 1), activation=(64, 2, 3, 2)
)


def make_table(
    *,
    members: int = 53,
    non_members: int = 61,
    gap: float = 0.0,
    seed: int = 0,
    widths: Widths | None = None,
    scans_each: int = 1,
) -> SignalTable:
    """Return a table of one model and three snapshots whose members were fitted ``gap`` times more closely.

    The signed error of a non-member has SD 4 years, that of a member 4 / (1 + gap); every gradient is the
    error times a direction plus noise, every activation moves with the error, and copies of a member are
    predicted nearly as if it had not been fitted, and its gradient lies along what training did. With gap 0
    membership means nothing. The last snapshot carries the signal; predictions of earlier ones are those of
    an unfitted model, everything else there is noise. Rows are in random order.
    """
    widths = widths or Widths()
    rng = np.random.default_rng([seed, members, non_members])
    people = rng.permutation(members + non_members)
    is_member = np.repeat(people < members, scans_each)
    unfitted = rng.normal(0.5, 4.0, len(is_member))
    error = unfitted / np.where(is_member, 1.0 + gap, 1.0)
    covariates = _covariates(people, scans_each, rng)
    values = {
        name: LazyArray(_with_snapshots(last, rng))
        for name, last in _signals(covariates.age, error, widths, rng).items()
    }
    copies = _copies(covariates.age, error, unfitted, np.random.default_rng([seed, members, non_members, 1]))
    values["augmented:shift"] = LazyArray(copies)
    for number, kind in enumerate(("rotation", "noise"), start=3):
        drawn = np.random.default_rng([seed, members, non_members, number])
        values[f"augmented:{kind}"] = LazyArray(_copies(covariates.age, error, unfitted, drawn))
    values["prediction"] = LazyArray(
        _before(values["prediction"].read(), covariates.age + unfitted, np.random.default_rng([seed, 5]))
    )
    pull = is_member * gap / (1.0 + gap)
    norms = np.linalg.norm(values["gradient-norms"].read(), axis=1)
    values |= _course(error, pull, norms, np.random.default_rng([seed, members, non_members, 2]))
    spread = np.random.default_rng([seed, members, non_members, 2]).uniform(2.0, 4.0, (1, 3, len(is_member)))
    values["stated-sd"] = LazyArray(spread.astype(np.float32))
    membership = is_member.astype(np.int8)[None]
    return SignalTable(covariates, ("model",), ("epoch-1", "epoch-2", "epoch-3"), membership, values)


def _covariates(people: np.ndarray, scans_each: int, rng: np.random.Generator) -> Covariates:
    scans = tuple(ScanId(f"{p:04d}", f"{s}") for p in people for s in range(scans_each))
    age = np.repeat(rng.normal(62.6, 7.4, len(people)), scans_each)
    sex = np.repeat(rng.choice(["F", "M"], len(people)), scans_each)
    site = np.repeat(rng.choice(["a", "b", "c"], len(people)), scans_each)
    return Covariates(scans, age, sex, site)


def _signals(
    age: np.ndarray, error: np.ndarray, widths: Widths, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    signals = {"prediction": age + error, "gradient-norms": _norms(error, widths.norms, rng)}
    for name in ("conv1", "conv6", "output", "hidden"):
        shape = getattr(widths, name)
        if shape is not None:
            signals[f"gradient:{name}"] = _along(2.0 * error, shape, rng)
    if widths.activation is not None:
        signals["activation:conv5"] = np.maximum(_along(error, widths.activation, rng), 0.0)
    return signals


def _norms(error: np.ndarray, tensors: int, rng: np.random.Generator) -> np.ndarray:
    scale = rng.uniform(1.0, 30.0, tensors)
    norms = np.abs(error)[:, None] * scale * rng.lognormal(0.0, 0.2, (len(error), tensors))
    zeros = list(ZERO_BIASES)
    norms[:, zeros] = np.abs(rng.normal(0.0, 1e-9, (len(error), len(zeros))))
    return norms


def _copies(age: np.ndarray, error: np.ndarray, unfitted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return predictions on five copies, which fall back two thirds towards the error without fitting."""
    centre = age + error + (unfitted - error) * 2 / 3
    last = centre[:, None] + rng.normal(0.0, 0.3, (len(age), 5))
    noise = rng.normal(float(last.mean()), float(last.std()), (2, *last.shape))
    return np.concatenate([noise, last[None]])[None].astype(np.float32)


def _before(last: np.ndarray, unfitted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return ``last`` after two earlier snapshots, in which nobody was fitted."""
    earlier = unfitted + rng.normal(0.0, 0.3, (2, len(last)))
    return np.concatenate([earlier, last[None]])[None].astype(np.float32)


def _course(
    error: np.ndarray, pull: np.ndarray, norms: np.ndarray, rng: np.random.Generator
) -> dict[str, LazyArray]:
    """Return signals of the course of training: members' gradients lie along its steps by their ``pull``.

    Gradients also grow with the error along a direction of their own.
    """
    scans = len(pull)
    cosine = np.clip(-0.5 * pull + 0.2 * rng.standard_normal(scans), -1.0, 1.0)
    step = rng.standard_normal(512)
    gradients = rng.standard_normal((scans, 512)) + 0.8 * np.multiply.outer(pull, step)
    gradients += 0.3 * np.multiply.outer(error, np.random.default_rng(512).standard_normal(512))
    means = np.broadcast_to(0.08 * step, (3, scans, 512))
    return {
        "product:movement": LazyArray(_with_snapshots(cosine * norms, rng)),
        "projection:512": LazyArray(_with_snapshots(gradients, rng)),
        "step:512": LazyArray(means[None].astype(np.float32)),
    }


def _along(error: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    direction = rng.normal(0.0, 1.0, shape)
    return np.multiply.outer(error, direction) + rng.normal(0.0, 0.5, (len(error), *shape))


def _with_snapshots(last: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = rng.normal(float(last.mean()), float(last.std()), (2, *last.shape))
    return np.concatenate([noise, last[None]])[None].astype(np.float32)


class Leak(NamedTuple):
    """A target table and the leaked table of the same model."""

    target: SignalTable
    leaked: SignalTable


def leak(table: SignalTable, *, per_class: int, seed: int = 0) -> Leak:
    """Return ``table`` split into the scans to score and ``per_class`` leaked participants of each class."""
    rng = np.random.default_rng(seed)
    people, members = table.covariates.participant_index, table.is_member()
    chosen = [rng.permutation(np.unique(people[members == state]))[:per_class] for state in (True, False)]
    is_leaked = np.isin(people, np.concatenate(chosen))
    return Leak(table.select(~is_leaked), table.select(is_leaked))


def make_references(
    table: SignalTable, *, models: int = 16, gap: float = 0.0, seed: int = 0, inside: bool = True
) -> SignalTable:
    """Return reference models on the scans of ``table``: half of the people inside each, drawn evenly.

    A reference errs as the models of ``make_table`` do: SD 4 years, 4 / (1 + gap) inside, offset 0.5; its
    gradients lie along the table's directions. With ``inside`` false no reference saw any of these people.
    """
    rng = np.random.default_rng([seed, models, len(table)])
    people = table.covariates.participant_index
    ranks = np.stack([rng.permutation(models) for _ in range(people.max() + 1)])
    states = (ranks < models // 2)[people].T & inside
    error = rng.normal(0.5, 4.0, states.shape) / np.where(states, 1.0 + gap, 1.0)
    known = table.error()
    values = {"prediction": table.age + error}
    if "gradient-norms" in table.values:
        sizes = table.read("gradient-norms").mean(axis=0) / np.abs(known).mean()
        noisy = np.random.default_rng([seed, models, len(table), 1])
        noise = noisy.lognormal(0.0, 0.2, (*error.shape, len(sizes)))
        values["gradient-norms"] = np.abs(error)[..., None] * sizes * noise
    for name, array in table.values.items():
        if name.startswith("gradient:"):
            last = array.read().astype(np.float64)
            direction = np.tensordot(known, last, axes=(0, 0)) / (known @ known)
            values[name] = np.multiply.outer(error, direction) + rng.normal(
                0.0, 0.5, (*error.shape, *direction.shape)
            )
    return SignalTable(
        table.covariates,
        tuple(f"shadow-{k}" for k in range(models)),
        ("last",),
        states.astype(np.int8),
        {name: LazyArray(array[:, None].astype(np.float32)) for name, array in values.items()},
    )


def with_signal(table: SignalTable, name: str, last: np.ndarray) -> SignalTable:
    """Return ``table`` with the values of one signal replaced, the same in all snapshots."""
    stored = np.stack([last] * len(table.snapshots))[None].astype(np.float32)
    return replace(table, values={**table.values, name: LazyArray(stored)})


def with_errors(table: SignalTable, errors: np.ndarray) -> SignalTable:
    """Return ``table`` with predictions that miss by ``errors`` years."""
    return with_signal(table, "prediction", table.age + errors)
