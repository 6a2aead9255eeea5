"""Markdown from all scores: what was trained, every attack's means over targets, claims and agreements."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, final

import numpy as np

from comparison.machines import MACHINES
from comparison.scoring import WITHOUT, Cell, Seen, read_scores
from comparison.settings import LEVELS, Agreement, Claim, Network
from comparison.statistics import Attacked, Difference, compare, evaluated, mean_of
from comparison.training import Bench
from privoxel.arrays import FloatArray
from privoxel.evaluation.scored import Evaluated

AUC, TPR = "auc", "tpr_at_fpr_0.01"
ENCODERS = (
    "activation",
    "gradient-magnitude",
    "gradient-conv1",
    "gradient-output",
    "gradient-conv6",
    "prediction-label",
    "combined",
)
PAPER = ("error-forest", *ENCODERS)
GROUPS = {"encoders": ENCODERS, "paper": (*PAPER, *(f"paper:{machine.name}" for machine in MACHINES))}
NOT_THERE = "–"


class Place(NamedTuple):
    """A cell of the tables: all targets of a network at a level with so many leaked."""

    network: str
    level: str
    leaked: int


@final
@dataclass(frozen=True)
class Judge:
    """Scores of all targets, and who of the judged people are members."""

    bench: Bench

    def at(self, network: Network, level: str, leaked: int) -> "Scored":
        """Return all targets' scores at a place."""
        numbers = range(self.bench.settings.trainings.targets)
        cells = [Cell(network, number, level, leaked) for number in numbers]
        found = []
        for cell in cells:
            draw = self.bench.groups.target(cell.number, cell.leaked)
            inside = draw.members[draw.judged]
            found.append({name: evaluated(s, inside, draw.judged) for name, s in self._scores(cell).items()})
        return Scored(tuple(found))

    def _scores(self, cell: Cell) -> dict[str, FloatArray]:
        """Return privoxel's scores and other tools'; those that learn from nobody leaked are kept once."""
        own = read_scores(self.bench.output / "scores" / f"{cell.name}.npz")
        most = cell._replace(leaked=max(self.bench.settings.attacks.leaked))
        peers = read_scores(self.bench.output / "peers" / f"{most.name}.npz")
        peers = {name: scores for name, scores in peers.items() if not learns_from_leaked(name)}
        if cell.leaked:
            peers = read_scores(self.bench.output / "peers" / f"{cell.name}.npz") | peers
        return own | peers


def learns_from_leaked(name: str) -> bool:
    """Return whether another tool's attack is fitted to leaked people.

    >>> learns_from_leaked("art:gb"), learns_from_leaked("art:references-gb")
    (True, False)
    """
    return name.startswith(("art:", "sacro:worst")) and not name.startswith("art:references")


@final
@dataclass(frozen=True)
class Scored:
    """Scores by attack of every target at one place; an attack counts once all targets have it."""

    targets: tuple[dict[str, Evaluated], ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Attacks that all targets have, in the order of the first target."""
        whole = (name for name in self.targets[0] if WITHOUT not in name)
        return tuple(name for name in whole if all(name in target for target in self.targets))

    def of(self, name: str) -> Attacked:
        """Return one attack's scores of every target, and those without each model that it reads."""
        without: dict[str, dict[int, Evaluated]] = {}
        for number, target in enumerate(self.targets):
            for other, scores in target.items():
                if other.startswith(name + WITHOUT):
                    without.setdefault(other.removeprefix(name + WITHOUT), {})[number] = scores
        return Attacked([target[name] for target in self.targets], without)

    def mean(self, name: str, metric: str) -> float:
        """Return the mean of a metric over targets; NaN where a target lacks the attack."""
        return mean_of(self.of(name).targets, metric) if name in self.names else float("nan")

    def best(self, names: Iterable[str], metric: str) -> str | None:
        """Return the attack of these with the highest mean over targets, or None if none is there."""
        there = [name for name in names if name in self.names]
        return max(there, key=lambda name: self.mean(name, metric), default=None)


def expanded(names: Sequence[str], there: Sequence[str]) -> list[str]:
    """Return attack names for names, groups (``@paper``, ``@all``) and prefixes (``art:*``)."""
    found: list[str] = []
    for name in names:
        if name == "@all":
            found += there
        elif name.startswith("@"):
            found += GROUPS[name[1:]]
        elif name.endswith("*"):
            found += [one for one in there if one.startswith(name[:-1])]
        else:
            found.append(name)
    return found


def write_tables(bench: Bench) -> None:
    """Write ``tables.md`` into the output folder."""
    judge, settings = Judge(bench), bench.settings
    places = {
        Place(network.model.name, level, leaked): judge.at(network, level, leaked)
        for network in settings.networks
        for level in LEVELS
        for leaked in (0, *settings.attacks.leaked)
    }
    parts = [_trained(bench), *_all_attacks(bench, places)]
    parts += [_claims(settings.claims, places), _agreements(settings.agreements, places)]
    path = bench.output / "tables.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"wrote {path}")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _number(value: float, digits: int = 3) -> str:
    return NOT_THERE if np.isnan(value) else f"{value:.{digits}f}"


def _trained(bench: Bench) -> str:
    """Return what the targets reached: mean absolute errors in years."""
    rows = []
    for network in bench.settings.networks:
        for level in LEVELS:
            errors = [_errors(bench, network, level, k) for k in range(bench.settings.trainings.targets)]
            members, others, null = (np.array(part) for part in zip(*errors, strict=True))
            gaps = others - members
            rows.append(
                (
                    network.model.name,
                    f"{level} (epoch {network.epochs[level]})",
                    f"{members.mean():.2f} ({members.min():.2f}-{members.max():.2f})",
                    f"{others.mean():.2f} ({others.min():.2f}-{others.max():.2f})",
                    f"{null.mean():.2f}",
                    f"{gaps.mean():.2f} ({gaps.min():.2f}-{gaps.max():.2f})",
                )
            )
    head = ("network", "level", "MAE members", "MAE non-members", "null", "gap")
    return "MAE in years: mean over targets (range).\n\n" + _table(head, rows)


def _errors(bench: Bench, network: Network, level: str, number: int) -> tuple[float, float, float]:
    table = Seen(bench, network, level).target(number)
    sizes, inside = np.abs(table.error()), table.is_member()
    null = np.abs(table.age - np.median(table.age[inside]))[~inside].mean()
    return float(sizes[inside].mean()), float(sizes[~inside].mean()), float(null)


def _all_attacks(bench: Bench, places: dict[Place, Scored]) -> Iterable[str]:
    for network in bench.settings.networks:
        for leaked in (*bench.settings.attacks.leaked, 0):
            here = [places[Place(network.model.name, level, leaked)] for level in LEVELS]
            names = dict.fromkeys(name for scored in here for name in scored.names)
            rows = [
                (
                    name,
                    *(
                        f"{_number(scored.mean(name, AUC))} ({_number(100 * scored.mean(name, TPR), 1)})"
                        for scored in here
                    ),
                )
                for name in names
            ]
            said = f"{leaked} + {leaked} leaked" if leaked else "nobody leaked"
            yield f"{network.model.name}, {said}: AUC (TPR in % at 1 % FPR)\n\n" + _table(
                ("attack", *LEVELS), rows
            )


def _claims(claims: Sequence[Claim], places: dict[Place, Scored]) -> str:
    """Return a row a claim, network and leak: at each level both means, the difference and what it shows."""
    rows = []
    for claim in claims:
        for network, leaked in dict.fromkeys((place.network, place.leaked) for place in places):
            if leaked in claim.leaked or (leaked and not claim.leaked):
                here = [places[Place(network, level, leaked)] for level in LEVELS]
                metric = "AUC" if claim.metric == AUC else "TPR at 1 %"
                head = (claim.title, metric, network, str(leaked), claim.first)
                rows.append((*head, *(_claimed(claim, scored) for scored in here)))
    return _table(("claim", "metric", "network", "leaked", "first", *LEVELS), rows)


def _claimed(claim: Claim, scored: Scored) -> str:
    left_out = {claim.first, *expanded(claim.without, scored.names)}
    asked = [name for name in expanded(claim.over, scored.names) if name not in left_out]
    over = scored.best(asked, claim.metric)
    if over is None or claim.first not in scored.names:
        return NOT_THERE
    margin = claim.margin if claim.metric == AUC else 0.0
    found = compare(scored.of(claim.first), scored.of(over), claim.metric, margin, claim.times)
    first, second = scored.mean(claim.first, claim.metric), scored.mean(over, claim.metric)
    times = "" if claim.times == 1.0 else f"{claim.times:g} × "
    told = f"{first:.3f} − {times}{second:.3f} ({over}): {found.value:+.3f}"
    parts = [f"{told} ({found.low:+.3f} to {found.high:+.3f}), **{found.finding}**"]
    if claim.expected is not None:
        parts.append(f"{claim.expected:g} hoped for: {hoped(claim.expected, found)}")
    missing = [name for name in asked if name not in scored.names]
    return "; ".join([*parts, *([f"not run: {', '.join(missing)}"] if missing else [])])


def hoped(gain: float, found: Difference) -> str:
    """Return whether a hoped-for gain is reached by the interval of the difference.

    >>> hoped(0.02, Difference(0.03, 0.01, 0.05, "superior"))
    'possible'
    """
    if found.low >= gain:
        return "shown"
    return "possible" if found.high >= gain else "excluded"


def _agreements(agreements: Sequence[Agreement], places: dict[Place, Scored]) -> str:
    head = (
        "the same algorithm", "in", "targets", "largest difference of AUC", "mean difference of TPR at 1 %",
        "rank correlation, lowest",
    )  # fmt: skip
    rows = []
    for pair in agreements:
        differences, rates, correlations = [], [], []
        for place, scored in places.items():
            if place.leaked or not {pair.ours, pair.theirs} <= set(scored.names):
                continue
            rates.append(scored.mean(pair.ours, TPR) - scored.mean(pair.theirs, TPR))
            for ours, theirs in zip(
                scored.of(pair.ours).targets, scored.of(pair.theirs).targets, strict=True
            ):
                differences.append(abs(mean_of([ours], AUC) - mean_of([theirs], AUC)))
                correlations.append(_rank_correlation(ours.scores[0], theirs.scores[0]))
        if differences:
            told = f"{max(differences):.4f}", f"{np.mean(rates):+.4f}", f"{min(correlations):.4f}"
            rows.append((pair.ours, pair.theirs, str(len(differences)), *told))
    return _table(head, rows)


def _rank_correlation(a: FloatArray, b: FloatArray) -> float:
    from scipy.stats import spearmanr  # noqa: PLC0415

    return float(spearmanr(a, b).statistic)
