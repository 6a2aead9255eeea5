"""Which of the paper's claims hold on our cohorts, and which of its numbers are artefacts: ruled by numbers.

A claim holds where the 95 % interval of what it speaks of lies on its side of nothing, does not where it lies
on the other, and is not shown where it holds both. No ruling is written down beforehand.
"""

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from privoxel.evaluation.federation_results import FederationResults, PairMatrix
from privoxel.evaluation.frontier import estimate
from privoxel.evaluation.intervals import participant_weights
from privoxel.evaluation.reproduction_results import Claim, Ruling
from privoxel.evaluation.results import Metric
from privoxel.evaluation.scored import Estimate, Evaluated
from privoxel.evaluation.weighted import weighted_balanced_accuracy
from privoxel.recipes.federation.attacking import CONTROLS
from privoxel.recipes.judging import COVARIATES_BEST, PSEUDO_MEMBERS
from privoxel.recipes.reproduction.cells import CentralRun, Found
from privoxel.recipes.reproduction.central import NAMES, NETWORKS
from privoxel.recipes.reproduction.private_figures import PrivateModels, epsilon_words
from privoxel.recipes.reproduction.published import IID
from privoxel.seeding import Streams
from privoxel.training.private.accounting import MEANINGLESS

DRAWS = 2000
USEFUL = 0.9
"""Share of the null error below which a private model is called useful."""
NO_GAP = 0.1
"""Gap in years below which the paper's attacks on private models are at chance."""
AT_CHANCE = 0.535
"""Highest accuracy that the paper shows for such a gap."""
CONFIRMED: Ruling = "artefact confirmed here"
NOT_SEEN: Ruling = "artefact not seen here"
ABOVE = "holds if the 95 % interval lies above 0"


def claims_of(found: Found, private: PrivateModels | None, seed: int) -> list[Claim]:
    """Return every claim that something found can speak to, ruled."""
    streams = Streams(seed).child("claims")
    central = {cell.model: run for cell, run in found.central.items() if cell.noise is None}
    claims = [*_central(central, streams), *_networks(central, streams)]
    if private is not None:
        claims += _private(private)
    claims += _shadows(found)
    for cell, results in found.federations.items():
        if results.has_learned:
            claims += _federation(f"{NAMES[cell.model]}, {cell.environment}", cell.environment, results)
    return claims


def rule(low: float | None, high: float | None) -> Ruling:
    """Return the ruling on a quantity that a claim says is above 0, from the ends of its interval.

    >>> rule(0.01, 0.05), rule(-0.05, -0.01), rule(-0.01, 0.05)
    ('holds here', 'does not hold here', 'not shown here')
    """
    if low is not None and low > 0:
        return "holds here"
    return "does not hold here" if high is not None and high < 0 else "not shown here"


def _central(central: Mapping[str, CentralRun], streams: Streams) -> Iterator[Claim]:
    for model, run in central.items():
        name, attacks = NAMES[model], run.scores.evaluated
        accuracy = _accuracy(run, "prediction-label")
        left_out = (PSEUDO_MEMBERS, COVARIATES_BEST)  # too few people; above one half by construction
        controls = (c for c in run.results.targets[0].controls if c.name not in left_out)
        control = max((c.metrics["balanced_accuracy"] for c in controls), key=_value)
        yield Claim(
            claim=f"{name}: prediction and label alone reveal membership",
            source="4.1, Table 1",
            published=_printed(run, "prediction-label"),
            measured=f"{_percent(accuracy)}; strongest control {_percent(control)}",
            rule="holds if the interval lies above 50 % and above the strongest control's value",
            ruling=rule(_minus(accuracy.low, max(0.5, _value(control))), _minus(accuracy.high, 0.5)),
        )
        for first, second, claim in (
            ("combined", "prediction-label", "gradients add to prediction and label"),
            (
                "gradient-conv6",
                "gradient-conv1",
                "gradients nearer the output are more informative (conv 6, conv 1)",
            ),
            (
                "gradient-output",
                "gradient-conv1",
                "gradients nearer the output are more informative (output, conv 1)",
            ),
        ):
            if first in attacks and second in attacks:
                gain = _difference(attacks[first], attacks[second], streams, f"{model}/{first}/{second}")
                yield Claim(
                    claim=f"{name}: {claim}",
                    source="4.1, Table 1",
                    published=f"{_printed(run, first)} against {_printed(run, second)}",
                    measured=_points(gain),
                    rule=ABOVE,
                    ruling=rule(gain.low, gain.high),
                )
        yield from _artefacts(name, run, streams)


def _artefacts(name: str, run: CentralRun, streams: Streams) -> Iterator[Claim]:
    """Yield whether the forest hides what the error says, and whether the printed ± is that of sampling."""
    attacks = run.scores.evaluated
    if "error-forest" in attacks and "abs-error" in attacks:
        gain = _difference(attacks["abs-error"], attacks["error-forest"], streams, f"{name}/forest")
        yield Claim(
            claim=f"{name}: the error is a weak feature (the row 'error' of Table 1)",
            source="Table 1; against it the histograms of figure 1",
            published=f"{_printed(run, 'error-forest')} by a random forest; a threshold on figure 1 "
            f"reaches more",
            measured=f"threshold on |error| minus forest: {_points(gain)}",
            rule="an artefact of the forest if that interval lies above 0",
            ruling=artefact(gain.low, gain.high),
        )
    metric = _accuracy(run, "combined")
    if metric.sd_repeats is not None and metric.low is not None and metric.high is not None:
        reach = (metric.high - metric.low) / 2
        yield Claim(
            claim=f"{name}: the ± of five attacks tells how certain an accuracy is",
            source="Table 1",
            published="± 0.20 to 0.83 points; one test of 1,388 scans alone has a standard error of 1.2",
            measured=f"all features: SD of the attacks {100 * metric.sd_repeats:.2f} points, half-width "
            f"of the 95 % interval {100 * reach:.2f}",
            rule="an artefact if twice the SD is smaller than the half-width",
            ruling=CONFIRMED if 2 * metric.sd_repeats < reach else NOT_SEEN,
        )


def _networks(central: Mapping[str, CentralRun], streams: Streams) -> Iterator[Claim]:
    if set(NETWORKS) - set(central):
        return
    volumes, slices = (central[model] for model in NETWORKS)
    name = "prediction-label"
    first, second = slices.scores.evaluated[name], volumes.scores.evaluated[name]
    if not np.array_equal(first.members, second.members):
        return
    gain = _difference(first, second, streams, "networks")
    gaps = [run.results.targets[0].utility.gap or 0.0 for run in (slices, volumes)]
    yield Claim(
        claim="The network that overfits more is the more vulnerable one",
        source="4.1, Tables 1 and 3",
        published="2D-slice-mean: gap 2.11 years, 81.70 %; 3D-CNN: 1.74 years, 76.45 %",
        measured=f"2D-slice-mean: gap {gaps[0]:.2f} years, 3D-CNN: {gaps[1]:.2f} years; accuracy of "
        f"prediction + label, 2D minus 3D: {_points(gain)}",
        rule="holds if the interval lies on the side of 0 to which the gaps point",
        ruling=rule(gain.low, gain.high)
        if gaps[0] > gaps[1]
        else rule(_minus(0, gain.high), _minus(0, gain.low)),
    )


def _private(private: PrivateModels) -> Iterator[Claim]:
    line = private.lines.get("all")
    if line is not None:
        yield Claim(
            claim="Overfitting and vulnerability go together",
            source="4.3, figure 3b",
            published="r = 0.98 over 26 private models, 15.0 points a year",
            measured=f"r = {_plain(line.r)} over {line.models} private models, {_points(line.slope)} a year",
            rule="holds if the interval of the slope lies above 0",
            ruling=rule(line.slope.low, line.slope.high),
        )
    few = [one for one in private.models if (one.gap.value or 0.0) < NO_GAP]
    if few:
        leak = max(_or(one.accuracy.low) for one in few) > 0.5
        reach = max(1.0 if one.accuracy.high is None else one.accuracy.high for one in few)
        told = ", ".join(_percent(one.accuracy) for one in few)
        yield Claim(
            claim=f"With a gap below {NO_GAP:g} years the attack is at chance",
            source="figure 3b, read off",
            published="49.9 to 53.5 %",
            measured=f"{len(few)} models: {told}",
            rule=f"holds if no interval reaches above {100 * AT_CHANCE:.1f} %, the highest of the paper's, "
            "does not if one lies above 50 %",
            ruling="does not hold here" if leak else rule(AT_CHANCE - reach, None),
        )
    guaranteed = [one for one in private.models if one.epsilon < MEANINGLESS]
    if guaranteed:
        best = min(guaranteed, key=lambda one: one.mae.value or math.inf)
        useful = (best.mae.value or math.inf) < USEFUL * best.null_mae
        yield Claim(
            claim="No private model with ε < 100 is useful",
            source="4.3",
            published="all performance lost",
            measured=f"best of {len(guaranteed)} models: {NAMES[best.model]}, ε = "
            f"{epsilon_words(best.epsilon)}, MAE {_plain(best.mae)} years, null {best.null_mae:.2f}",
            rule=f"holds if no test error is below {USEFUL:g} × the null error; of these settings only, "
            f"not of every private training",
            ruling="does not hold here" if useful else "holds here",
        )


def _shadows(found: Found) -> Iterator[Claim]:
    for model, results in found.shadows.items():
        metric = results.own.target
        yield Claim(
            claim=f"{NAMES[model]}: one shadow replaces known members",
            source="Appendix E",
            published="71.74 %" if model == "cnn3d" else "74.39 %",
            measured=_percent(metric),
            rule="holds if the interval lies above 50 %",
            ruling=rule(_minus(metric.low, 0.5), _minus(metric.high, 0.5)),
        )
        if results.disjoint is not None and results.difference is not None:
            other, gain = results.disjoint.target, results.difference
            yield Claim(
                claim=f"{NAMES[model]}: the shadow works because it shares people with the target",
                source="Appendix E.1 (a shadow of other people is named, not run)",
                published="not measured",
                measured=f"shadow of other people {_percent(other)}; sharing adds {_percent_points(gain)}",
                rule="an artefact of the shared people if the interval of what they add lies above 0",
                ruling=artefact(gain.low, gain.high),
            )


def _federation(name: str, environment: str, results: FederationResults) -> Iterator[Claim]:
    of = {matrix.name: matrix for matrix in results.matrices}
    attack = of.get("set-3")
    if attack is None:
        return
    if environment == IID:
        yield _in_iid(name, attack, of)
    else:
        yield from _age_shift(name, attack, of)
    yield from _by_round(name, results, of)


def _in_iid(name: str, attack: PairMatrix, of: Mapping[str, PairMatrix]) -> Claim:
    excess = (of.get("set-3-matched-excess") or of["set-3-excess"]).mean_all
    return Claim(
        claim=f"{name}: every learner finds the others' participants",
        source="4.2, Table 2",
        published=f"{_successful(attack, paper=True)}",
        measured=f"mean of all pairs {_percent(attack.mean_all)}; above the strongest control "
        f"{_percent_points(excess)}",
        rule="holds if the interval of what lies above the strongest control is above 0",
        ruling=rule(excess.low, excess.high),
    )


def _age_shift(name: str, attack: PairMatrix, of: Mapping[str, PairMatrix]) -> Iterator[Claim]:
    control = max((of[one].mean_all for one in CONTROLS if one in of), key=_value)
    excess = (of.get("set-3-matched-excess") or of["set-3-excess"]).mean_all
    yield Claim(
        claim=f"{name}: attacks succeed where the data are not alike",
        source="4.2, Table 2 (mean of the pairs above 50 % only)",
        published=_successful(attack, paper=True),
        measured=f"as the paper counts {_successful(attack)}; all pairs {_percent(attack.mean_all)}; "
        f"without any model, by age and sex, {_percent(control)}; above that among people of equal ages "
        f"{_percent_points(excess)}",
        rule="an artefact of age shift if that last interval reaches from 0 or below to less than half of "
        "what the paper's way of counting shows above 50 %; none if it lies above 0",
        ruling=artefact(*_explained(attack, excess)),
    )
    matched = of.get("set-1-matched-excess")
    magnitudes = matched or of.get("set-1-excess")
    if magnitudes is not None:
        yield Claim(
            claim=f"{name}: gradient magnitudes do not depend on the distribution of ages",
            source="4.2",
            published="called agnostic of distribution shift",
            measured=f"set 1 above the strongest control, all pairs{' of equal ages' if matched else ''}: "
            f"{_percent_points(magnitudes.mean_all)}",
            rule="holds if the interval lies above 0: magnitudes then find what ages do not",
            ruling=rule(magnitudes.mean_all.low, magnitudes.mean_all.high),
        )


def _by_round(name: str, results: FederationResults, of: Mapping[str, PairMatrix]) -> Iterator[Claim]:
    if not results.by_round or results.environment != IID:
        return
    number = results.config.get("attack", {}).get("by_round", 3)
    points = sorted(results.by_round, key=lambda point: point.round)
    first, last = points[0].mean_all, points[-1].mean_all
    yield Claim(
        claim=f"{name}: the attack grows with the rounds",
        source="4.2, figure 2",
        published="50.4 to 61.4 % (3D), 50.6 to 58.5 % (2D)",
        measured=f"set {number}: round {points[0].round} {_percent(first)}, round {points[-1].round} "
        f"{_percent(last)}",
        rule="holds if the intervals of the first and the last round do not meet, the last being higher",
        ruling=rule(_minus(last.low, _or(first.high)), _minus(last.high, _or(first.low))),
    )
    five = of.get(f"set-{number}")
    if five is not None:
        mean = five.mean_all
        rounds = results.config.get("attack", {}).get("rounds", 5)
        yield Claim(
            claim=f"{name}: averaging the logits of the last {rounds} rounds makes the attack stronger",
            source="3.2, C.1; against it figure 2",
            published="60.06 against 61.35 % of the last round alone (3D), 58.11 against 58.5 % (2D)",
            measured=f"set {number}: {rounds} rounds {_percent(mean)}, last round alone {_percent(last)}",
            rule="an artefact if the interval of several rounds lies below the last round's value, none if "
            "above it",
            ruling=artefact(_minus(_value(last), mean.high), _minus(_value(last), mean.low)),
        )


def _difference(first: Evaluated, second: Evaluated, streams: Streams, name: str) -> Estimate:
    """Return how much more accurate ``first`` is than ``second``, participants drawn for both at once."""
    weights = participant_weights(first, DRAWS, streams.generator(name))
    ones = np.ones((1, first.scores.shape[1]))
    value, drawn = (
        weighted_balanced_accuracy(first, each) - weighted_balanced_accuracy(second, each)
        for each in (ones, weights)
    )
    return estimate(float(value[0]), drawn)


def artefact(low: float | None, high: float | None) -> Ruling:
    """Return the ruling on a quantity that is above 0 where a number is an artefact, from its interval.

    >>> artefact(0.01, 0.05), artefact(-0.05, -0.01), artefact(-0.01, 0.05)
    ('artefact confirmed here', 'artefact not seen here', 'not shown here')
    """
    if low is not None and low > 0:
        return CONFIRMED
    return NOT_SEEN if high is not None and high < 0 else "not shown here"


def _explained(attack: PairMatrix, excess: Metric) -> tuple[float | None, float | None]:
    """Return ends of what ages explain: half of what is counted above 50 %, less the excess."""
    if excess.low is not None and excess.low > 0:
        return None, -excess.low
    counted = (attack.mean_successful or 0.5) - 0.5
    return _minus(counted / 2, excess.high), None


def _accuracy(run: CentralRun, name: str) -> Metric:
    attack = next(one for one in run.results.targets[0].attacks if one.name == name)
    return attack.metrics["balanced_accuracy"]


def _printed(run: CentralRun, name: str) -> str:
    paper = _accuracy(run, name).paper
    return "–" if paper is None else f"{100 * paper:.2f} %"


def _successful(matrix: PairMatrix, *, paper: bool = False) -> str:
    mean, count = (
        (matrix.paper_successful, matrix.paper_successes)
        if paper
        else (matrix.mean_successful, matrix.successes)
    )
    return "–" if mean is None or count is None else f"{100 * mean:.2f} % ({count} pairs)"


def _value(metric: Metric) -> float:
    return metric.value or 0.0


def _or(value: float | None) -> float:
    return 0.5 if value is None else value


def _minus(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _ends(scale: float, digits: int, sign: str = "") -> Callable[[Metric | Estimate], str]:
    def told(found: Metric | Estimate) -> str:
        if found.value is None:
            return found.reason or "–"
        text = f"{scale * found.value:{sign}.{digits}f}"
        if found.low is None or found.high is None:
            return text
        return f"{text} ({scale * found.low:{sign}.{digits}f} to {scale * found.high:{sign}.{digits}f})"

    return told


_plain = _ends(1, 2)


def _percent(found: Metric) -> str:
    return f"{_ends(100, 1)(found)} %"


def _points(found: Estimate) -> str:
    return f"{_ends(100, 1, '+')(found)} points"


def _percent_points(found: Metric) -> str:
    return f"{_ends(100, 1, '+')(found)} points"
