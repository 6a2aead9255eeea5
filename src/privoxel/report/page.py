"""The HTML report: a pure function from results and per-scan scores to one self-contained page.

The page leads with the verdict, its figure and three numbers; tables and distributions follow, then
what is needed to repeat the run. No network, no script; the same inputs give the same bytes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from privoxel.evaluation.archive import Archive, TargetScores
from privoxel.evaluation.results import BestAttack, Metric, Results, Target, Utility
from privoxel.report.comparisons import ComparedRow, SpreadRow, compared_rows, spread_rows
from privoxel.report.epsilon import epsilon_part
from privoxel.report.exposure import PrecisionRow, any_rarest, precision_rows, risk_parts
from privoxel.report.figures import (
    IntervalRow,
    Picture,
    age_chart,
    error_chart,
    gradient_chart,
    interval_chart,
    roc_chart,
    training_chart,
)
from privoxel.report.groups import Group, Named, is_measured, model_groups, most_exposed
from privoxel.report.sessions import SessionPart, session_part
from privoxel.report.slices import png_uri, side_by_side
from privoxel.report.tables import (
    DASH,
    Cell,
    Footnotes,
    Row,
    attack_row,
    fill_row,
    methods_used,
    metric_cell,
    years,
)
from privoxel.report.wording import (
    NULL_UTILITY,
    cohort_title,
    control_meanings,
    design_facts,
    flat,
    group_name,
    limits,
    sentence_of_auc,
    sentence_of_rates,
)
from privoxel.seeding import Streams
from privoxel.store import write_text
from privoxel.version import __version__

POINTS_PER_PAGE = 2400
"""Scatter points on one page, shared by its targets, so that the page stays small."""


class KeyNumber(NamedTuple):
    """One of the three numbers of the first screen."""

    value: str
    interval: str
    name: str
    meaning: str


class Section(NamedTuple):
    """Everything the page says about one target."""

    target: Target
    design: list[tuple[str, str]]
    attacks: list[Row]
    controls: list[tuple[Row, str]]
    footnotes: list[tuple[str, str]]
    control_footnotes: list[tuple[str, str]]
    pictures: list[Picture]
    utility: list[tuple[str, list[Cell]]]
    has_paper: bool
    best: BestAttack | None
    compared: list[ComparedRow]
    precision: list[PrecisionRow]


class SummaryTable(NamedTuple):
    """One model over its targets."""

    group: Group
    attacks: list[Row]
    controls: list[Row]
    footnotes: list[tuple[str, str]]
    picture: Picture | None
    has_paper: bool
    best: BestAttack | None
    compared: list[ComparedRow]
    spreads: list[SpreadRow]


def render_report(results: Results, archive: Archive) -> str:
    """Return the report as the text of one HTML file.

    ``archive`` may lack targets (then their charts are left out) and pictures.
    """
    template = environment().get_template("report.html.jinja")
    return template.render(context(results, archive))


def write_report(results: Results, archive: Archive, path: Path) -> None:
    """Write the report to ``path``; a reader never sees half a file."""
    write_text(path, render_report(results, archive))


def context(results: Results, archive: Archive) -> dict[str, Any]:
    """Return what the template prints."""
    groups = model_groups(results)
    worst = most_exposed(groups, results.verdict.primary_attack)
    hero = _interval_picture(worst, results.verdict.primary_attack, "hero") if is_measured(worst) else None
    return {
        "results": results,
        "verdict": results.verdict,
        "reasons": [reason for reason in results.verdict.reasons if reason not in results.verdict.sentence],
        "cohort_name": cohort_title(results.cohort),
        "hero": hero,
        "hero_model": worst.model if worst else "",
        "key_numbers": _key_numbers(results, worst),
        "primary_title": _title_of(results, results.verdict.primary_attack),
        "summaries": _summaries(results, groups, worst),
        "sections": _sections(results, archive),
        "utility_rows": [(target, _utility(target.utility, target.errors)) for target in results.targets],
        "slices": _pictures_of_scans(archive),
        "methods": methods_used(results.targets),
        "limits": limits(results),
        "config": flat(results.config),
        "machine": flat(results.machine),
        "version": results.versions.get("privoxel", __version__),
        "level": _level(results),
        "verdict_level": _percent(results.verdict.auc.level) if results.verdict.auc else _level(results),
        "risks": [part._replace(picture=_safe(part.picture)) for part in risk_parts(results)],
        "sessions": _session_part(results),
        "epsilon": epsilon_part(results),
        "has_rarest": any_rarest(results.targets),
        "group_name": group_name,
        "years": years,
        "created": results.created[:16].replace("T", " "),
    }


def _interval_picture(group: Group, primary: str, key: str) -> Picture:
    rows = [
        IntervalRow(
            one.title,
            one.metrics.get("auc"),
            one.metrics.get("balanced_accuracy"),
            one.name == primary,
            is_control,
        )
        for kind, is_control in ((group.attacks, False), (group.controls, True))
        for one in kind
    ]
    where = f"mean of {group.n_targets} targets" if group.n_targets > 1 else "one target"
    picture = interval_chart(
        rows, key=key, title=f"How well each attack tells members apart: {group.model}, {where}"
    )
    return safe(picture)


def _key_numbers(results: Results, group: Group | None) -> list[KeyNumber]:
    verdict = results.verdict
    auc = metric_cell("auc", verdict.auc, Footnotes())
    primary = (
        next((one for one in group.attacks if one.name == verdict.primary_attack), None) if group else None
    )
    rate = primary.metrics.get("tpr_at_fpr_0.05") if primary else None
    found = metric_cell("tpr_at_fpr_0.05", rate, Footnotes())
    limit = verdict.minimal_detectable_auc
    weaker = (
        "A weaker leak may go unnoticed by an audit of this size." if limit is not None else "Not available."
    )
    return [
        KeyNumber(auc.text, auc.interval, "AUC of the primary attack", sentence_of_auc(verdict.auc)),
        KeyNumber(found.text, found.interval, "Members found at 5 % false alarms", sentence_of_rates(rate)),
        KeyNumber(
            DASH if limit is None else f"{limit:.2f}",
            "",
            "Minimal detectable AUC",
            f"{weaker} Tolerated here: {verdict.tolerated_auc:.2f}.",
        ),
    ]


def _level(results: Results) -> str:
    """The level of the page's intervals as a reader writes it."""
    attacks = [attack for target in results.targets for attack in target.attacks]
    levels = [metric.level for attack in attacks for metric in attack.metrics.values()]
    return _percent(levels[0] if levels else 0.95)


def _percent(level: float) -> str:
    return f"{100 * level:g} %"


def _title_of(results: Results, name: str) -> str:
    attacks = (attack for target in results.targets for attack in target.attacks)
    return next((attack.title for attack in attacks if attack.name == name), name)


def _summaries(results: Results, groups: Sequence[Group], worst: Group | None) -> list[SummaryTable]:
    if len(results.targets) < 2:
        return []
    tables = []
    for place, group in enumerate(groups):
        footnotes = Footnotes()
        attacks = [_summary_row(one, results.verdict.primary_attack, footnotes) for one in group.attacks]
        controls = [_summary_row(one, "", footnotes) for one in group.controls]
        hidden = group is worst or not is_measured(group)
        picture = (
            None if hidden else _interval_picture(group, results.verdict.primary_attack, f"model{place}")
        )
        tables.append(
            SummaryTable(
                group,
                attacks,
                controls,
                footnotes.lines(),
                picture,
                _any_paper(attacks),
                _best_of(results, group.model) if group.n_targets > 1 else None,
                compared_rows(results, group.model) if group.n_targets > 1 else [],
                spread_rows(results, group),
            )
        )
    return tables


def _summary_row(one: Named, primary: str, footnotes: Footnotes) -> Row:
    row = Row(one.name, one.title, one.threat_model, "", (), is_primary=one.name == primary, sizes="")
    return fill_row(row, one.metrics, footnotes)


def _sections(results: Results, archive: Archive) -> list[Section]:
    most = max(150, min(600, POINTS_PER_PAGE // max(1, len(results.targets))))
    return [
        _section(results, target, place, archive.targets.get(target.name), most)
        for place, target in enumerate(results.targets)
    ]


def _section(results: Results, target: Target, place: int, scores: TargetScores | None, most: int) -> Section:
    footnotes, control_footnotes = Footnotes(), Footnotes()
    primary = results.verdict.primary_attack
    attacks = [attack_row(attack, primary, footnotes) for attack in target.attacks]
    controls = [attack_row(one, "", control_footnotes) for one in target.controls]
    meanings = control_meanings([one.name for one in target.controls])
    pictures = [] if scores is None else _score_pictures(results, target, scores, f"t{place}", most)
    pictures.append(training_chart(target.training, target.utility.null, key=f"t{place}-training"))
    return Section(
        target=target,
        design=design_facts(target.design),
        attacks=attacks,
        controls=list(zip(controls, meanings, strict=True)),
        footnotes=footnotes.lines(),
        control_footnotes=control_footnotes.lines(),
        pictures=[safe(picture) for picture in pictures if picture is not None],
        utility=_utility_rows(target),
        has_paper=_any_paper(attacks),
        best=_best_of(results, target.model, n_targets=1),
        compared=compared_rows(results, target.model) if _is_alone(results, target) else [],
        precision=precision_rows(target, primary),
    )


def _is_alone(results: Results, target: Target) -> bool:
    return sum(one.model == target.model for one in results.targets) == 1


def _best_of(results: Results, model: str, n_targets: int | None = None) -> BestAttack | None:
    """The corrected best attack on ``model``, if it was chosen over so many targets."""
    found = (best for best in results.best if best.model == model)
    return next((best for best in found if n_targets in {None, best.n_targets}), None)


def _score_pictures(
    results: Results, target: Target, scores: TargetScores, key: str, most: int
) -> list[Picture | None]:
    rng = Streams(results.seed).generator(f"report/roc/{target.name}")
    primary = results.verdict.primary_attack
    title = next(
        (a.title for a in target.attacks if a.name == primary),
        target.attacks[0].title if target.attacks else "",
    )
    return [
        roc_chart(scores, primary, rng, key=f"{key}-roc", title=title) if scores.evaluated else None,
        error_chart(scores, key=f"{key}-error"),
        gradient_chart(scores, key=f"{key}-gradient"),
        age_chart(scores, key=f"{key}-age", most=most, whole_years=not results.cohort.is_simulated),
    ]


def _utility_rows(target: Target) -> list[tuple[str, list[Cell]]]:
    """The model's errors and, where recorded, those of the model that never saw the members."""
    rows = [("Audited model", _utility(target.utility, target.errors))]
    null = target.design.get(NULL_UTILITY)
    if isinstance(null, Mapping):
        rows.append(("Model that never saw the members", _utility(Utility.model_validate(null), {})))
    return rows


def _utility(found: Utility, intervals: Mapping[str, Metric]) -> list[Cell]:
    """The model's errors as cells; ``intervals`` holds those that are known, by the field's name."""
    columns = ("members", "non_members", "validation", "null", "gap", "stated")
    return [Cell(years(getattr(found, name)), _years_interval(intervals.get(name))) for name in columns]


def _years_interval(metric: Metric | None) -> str:
    if metric is None or metric.low is None or metric.high is None:
        return ""
    return f"{years(metric.low)} to {years(metric.high)}"


def _any_paper(rows: Sequence[Row]) -> bool:
    return any(row.paper != DASH for row in rows)


def _pictures_of_scans(archive: Archive) -> list[tuple[str, str]]:
    if archive.slices is None:
        return []
    captions = [*archive.captions, *[""] * (len(archive.slices) - len(archive.captions))]
    return [
        (png_uri(side_by_side(planes)), caption)
        for planes, caption in zip(archive.slices, captions, strict=False)
    ]


def _session_part(results: Results) -> SessionPart | None:
    part = session_part(results)
    return None if part is None else part._replace(picture=_safe(part.picture))


def _safe(picture: Picture | None) -> Picture | None:
    return None if picture is None else safe(picture)


def safe(picture: Picture) -> Picture:
    """Mark the SVG as such; every text in it was escaped when it was drawn."""
    return picture._replace(svg=Markup(picture.svg))  # noqa: S704


def environment() -> Environment:
    """Return the templates of all reports."""
    return Environment(
        loader=PackageLoader("privoxel.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
