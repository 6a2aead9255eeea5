"""What a frontier says: who stands where, which setting to choose, the overfitting line, and the findings."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.attacks import get_attack
from privoxel.attacks.base import ThreatModel
from privoxel.evaluation.frontier import Standing, most_vulnerable, recommend, stand, widening_of
from privoxel.evaluation.frontier_results import (
    ASSUMPTION,
    Band,
    Front,
    FrontierPoint,
    OverfittingLine,
    PointStanding,
    Recommendation,
)
from privoxel.evaluation.metrics import to_metric
from privoxel.evaluation.overfitting import FEWEST, LARGEST_PUBLISHED_GAP, Line, Resampled, fit_line
from privoxel.evaluation.scored import Estimate
from privoxel.recipes.defending.comparing import Compared, best_accuracy, best_auc
from privoxel.recipes.defending.reading import Finished
from privoxel.recipes.defending.settings import folder_of
from privoxel.recipes.defending.trainings import shared_trainings
from privoxel.recipes.shadow_plans import threat_model_of

Gap = Literal["gap", "model_gap"]
BAND_POINTS = 60


class _Axes(NamedTuple):
    """MAE and vulnerability: settings × 2, and in every draw: draws × settings × 2."""

    costs: FloatArray
    drawn: FloatArray


def fronts_of(compared: Compared, reference: str) -> list[Front]:
    """Return the frontier of every adversary, with the setting to choose where ``reference`` is among it.

    Settings that change the answers alone are left out for who holds the weights, to whom they are no
    defence: black-box attacks met their answers, and would make them look safer than the same predictions.
    An adversary for whom fewer than two settings are left has no frontier.
    """
    answering = [one.point.config.defences.release.is_on for one in compared.finished]
    predicting = [place for place, answers in enumerate(answering) if not answers]
    found = []
    for adversary in compared.groups:
        kept = compared if adversary == ThreatModel.BLACK_BOX else compared.only(predicting)
        if len(kept.finished) > 1:
            left_out = [name for name in compared.names if name not in kept.names]
            found.append(_front(adversary, kept, reference, left_out))
    return found


def _front(adversary: str, compared: Compared, reference: str, left_out: list[str]) -> Front:
    attacks = compared.groups[adversary]
    axes = _axes(attacks, compared)
    standings = stand(compared.names, axes.costs, axes.drawn, _widenings(attacks, compared))
    order = np.argsort(axes.costs[:, 0], kind="stable")
    return Front(
        adversary=adversary,
        names=[standings[k].name for k in order if standings[k].is_on_front],
        standings=[_record(standing) for standing in standings],
        left_out=left_out,
        recommendation=_recommendation(adversary, axes, standings, compared, reference),
    )


def _axes(attacks: Sequence[str], compared: Compared) -> _Axes:
    metric = compared.settings.metric
    reached = np.array([most_vulnerable(one, attacks, metric)[0] for one in compared.plain])
    drawn = np.stack([most_vulnerable(one, attacks, metric) for one in compared.drawn], axis=1)
    return _Axes(
        np.stack([compared.column("mae"), reached], axis=-1),
        np.stack([compared.draws("mae"), drawn], axis=-1),
    )


def _widenings(attacks: Sequence[str], compared: Compared) -> FloatArray:
    """Return the widening of each setting's best attack, the largest over its targets."""
    metric, found = compared.settings.metric, []
    for one, plain in zip(compared.finished, compared.plain, strict=True):
        reached = plain.auc if metric == "auc" else plain.accuracy
        best = max(attacks, key=lambda name: reached[name][0])
        found.append(max(widening_of(target.evaluated[best], metric) for target in one.choice.targets))
    return np.array(found)


def _record(standing: Standing) -> PointStanding:
    return PointStanding(
        name=standing.name,
        is_on_front=standing.is_on_front,
        share=standing.share,
        dominated_by=list(standing.dominated_by),
        clearly=standing.clearly,
        alike=list(standing.alike),
    )


def _recommendation(
    adversary: str, axes: _Axes, standings: Sequence[Standing], compared: Compared, reference: str
) -> Recommendation | None:
    if reference not in compared.names:
        return None
    settings, attacks = compared.settings, compared.groups[adversary]
    found = recommend(
        compared.names,
        axes.costs,
        axes.drawn[:, :, 0],
        reference=reference,
        tolerated_loss=settings.tolerated_loss,
    )
    place = compared.names.index(found.name)
    rivals = set(found.candidates) - {found.name}
    others = [one for one in compared.finished if one.point.name in rivals]
    attack, reached = _reached(compared.finished[place], attacks, compared, others)
    return Recommendation(
        name=found.name,
        loss=to_metric(found.loss),
        vulnerability=to_metric(reached),
        attack=attack,
        title=get_attack(attack).title,
        candidates=len(found.candidates),
        alike=[name for name in standings[place].alike if name in found.candidates],
        meets_aim=reached.high is not None and reached.high <= settings.aim,
        loss_may_exceed=(found.loss.high or 0.0) > settings.tolerated_loss,
        confirm=None if found.name == reference else f"confirm-{folder_of(adversary)}.yaml",
    )


def _reached(
    one: Finished, attacks: Sequence[str], compared: Compared, among: Sequence[Finished]
) -> tuple[str, Estimate]:
    """Return the best of ``attacks`` on a setting chosen beside ``among``, by the frontier's metric."""
    if compared.settings.metric == "balanced_accuracy":
        best = best_accuracy(one, attacks, compared, among)
        return best.name, best.accuracy
    by_auc = best_auc(one, attacks, compared, among)
    return by_auc.name, by_auc.auc


def lines_of(compared: Compared) -> list[OverfittingLine]:
    """Return the overfitting line of every attack, the primary one first; none from too few settings.

    No finished setting is left out. Black-box attacks are set against the gap of the answers, others against
    that of the predictions.
    """
    names = sorted(compared.plain[0].accuracy, key=lambda name: name != compared.primary)
    found = (_line(name, compared, "all settings") for name in names)
    return [line for line in found if line is not None]


def part_lines_of(compared: Compared) -> list[OverfittingLine]:
    """Return the primary attack's line over parts of the settings: beside the main one, not in its place.

    Over distinct trainings, the first setting of each; and over the settings whose gaps the published models
    reached, to be set beside the published line. A part that is all settings, or too few, has no line.
    """
    gaps = compared.column(_gap_of(compared.primary, compared))
    parts = {
        "distinct trainings": [
            places[0] for places in shared_trainings([one.point for one in compared.finished])
        ],
        f"settings with gaps up to {LARGEST_PUBLISHED_GAP:g} years": np.flatnonzero(
            gaps <= LARGEST_PUBLISHED_GAP
        ).tolist(),
    }
    lines = [
        _line(compared.primary, compared.only(places), over)
        for over, places in parts.items()
        if FEWEST <= len(places) < len(gaps)
    ]
    return [line for line in lines if line is not None]


def sharing_of(compared: Compared) -> list[list[str]]:
    """Return the names of settings that share a training, a list each."""
    groups = shared_trainings([one.point for one in compared.finished])
    return [[compared.names[k] for k in places] for places in groups if len(places) > 1]


def _line(name: str, compared: Compared, over: str) -> OverfittingLine | None:
    threat = threat_model_of(get_attack(name), compared.finished[0].point.config)
    gap = _gap_of(name, compared)
    gaps = compared.column(gap)
    if len(gaps) < FEWEST or np.ptp(gaps) == 0.0:
        return None
    accuracies = np.array([one.accuracy[name][0] for one in compared.plain])
    drawn = np.stack([one.accuracy[name] for one in compared.drawn], axis=1)
    line = fit_line(gaps, accuracies, resampled=Resampled(compared.draws(gap), drawn))
    return OverfittingLine(
        attack=name,
        title=get_attack(name).title,
        adversary=str(threat),
        is_primary=name == compared.primary,
        over=over,
        models=line.models,
        intercept=to_metric(line.intercept),
        slope=to_metric(line.slope),
        r=to_metric(line.r),
        residual_sd=line.residual_sd,
        band=_band(line, gaps),
    )


def _gap_of(name: str, compared: Compared) -> Gap:
    """Return the gap of what an attack sees."""
    threat = threat_model_of(get_attack(name), compared.finished[0].point.config)
    return "gap" if threat is ThreatModel.BLACK_BOX else "model_gap"


def _band(line: Line, gaps: FloatArray) -> Band:
    """Return the band from no gap, or the smallest, to the largest."""
    grid = np.linspace(min(float(gaps.min()), 0.0), float(gaps.max()), BAND_POINTS)
    found = [line.at(gap) for gap in grid.tolist()]
    return Band(
        gaps=grid.tolist(), low=[one.low or 0.0 for one in found], high=[one.high or 0.0 for one in found]
    )


def findings_of(
    points: Sequence[FrontierPoint],
    fronts: Sequence[Front],
    lines: Sequence[OverfittingLine],
    aim: float,
    unfinished: int = 0,
) -> list[str]:
    """Return what the frontier shows, a sentence each; ``unfinished`` settings have no results."""
    found = [sentence for front in fronts for sentence in _front_sentences(front, aim)]
    if lines:
        line = lines[0]
        missing = f"{unfinished} not finished" if unfinished else "none left out"
        r = "no correlation can be given" if line.r.value is None else f"r = {_interval(line.r, 1, 2)}"
        found.append(
            f"Over {line.models} settings ({missing}) the accuracy of “{line.title}” is "
            f"{_interval(line.intercept, 100, 1)} % + {_interval(line.slope, 100, 1)} points a year of gap; "
            f"{r}. Published: 50.9 % + 15.0 points a year, r = 0.98."
        )
    private = [point for point in points if point.privacy is not None]
    broken = [point.name for point in private if point.privacy is not None and not point.privacy.agree]
    if broken:
        found.append(
            f"Warning: an attack shows more ε than the accountant allows on {', '.join(broken)}: the "
            f"training, the accounting or the assumption is wrong (that {ASSUMPTION})."
        )
    elif private:
        found.append(
            f"On every private setting ({len(private)}) the ε that an attack shows is below what the "
            "accountant allows."
        )
    return found


def _front_sentences(front: Front, aim: float) -> list[str]:
    names = ", ".join(front.names)
    found = [f"{front.adversary.capitalize()}: no other setting is better in both than {names}."]
    chosen = front.recommendation
    if front.left_out:
        found[0] += f" Left out, since they change the answers alone: {', '.join(front.left_out)}."
    if chosen is None:
        return [*found, "No setting is recommended: the one to compare with is not finished or left out."]
    ties = f" Not told apart from it: {', '.join(chosen.alike)}." if chosen.alike else ""
    passes = " The upper end of its loss passes the tolerated one." if chosen.loss_may_exceed else ""
    reaches = "stays within" if chosen.meets_aim else "does not stay within"
    found.append(
        f"{front.adversary.capitalize()}: of the {chosen.candidates} settings whose error is tolerated "
        f"{chosen.name} is the least vulnerable, {_interval(chosen.vulnerability, 100, 1)} % at "
        f"{_interval(chosen.loss, 100, 1)} % more error; its upper end {reaches} the aim of {100 * aim:g} %."
        f"{passes}{ties}"
    )
    return found


def _interval(metric: object, scale: float, digits: int) -> str:
    value, low, high = (getattr(metric, name) for name in ("value", "low", "high"))
    if value is None:
        return "–"
    text = f"{scale * value:.{digits}f}"
    return text if low is None else f"{text} ({scale * low:.{digits}f} to {scale * high:.{digits}f})"
