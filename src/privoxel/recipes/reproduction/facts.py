"""What a reproduction ran on, and what its scale leaves out."""

from collections.abc import Iterator

from privoxel.evaluation.results import CohortSummary
from privoxel.progress import duration
from privoxel.recipes.reproduction.cells import Found, Plan
from privoxel.recipes.reproduction.central import NAMES, Central, models_of
from privoxel.recipes.reproduction.published import ENVIRONMENTS
from privoxel.recipes.reproduction.published_central import published_private
from privoxel.recipes.reproduction.tables import EVERYTHING, TABLES


def facts_of(plan: Plan, found: Found) -> list[str]:
    """Return lines on cohorts, sizes, seed, machine and time."""
    lines: list[str] = []
    central = [run for cell, run in found.central.items() if cell.noise is None] or list(
        found.central.values()
    )
    if central:
        target, about = central[0].results.targets[0], central[0].results.cohort
        lines.append(
            f"Central models: {_cohort(about)}; {target.n_members} members, {target.n_non_members} unseen "
            f"participants (paper: 7,312 and 2,194); width {plan.central.run.models[0].width:g}, head "
            f"'{plan.central.run.models[0].head}', {plan.central.run.training.epochs} epochs."
        )
    if found.federations:
        cell, results = next(iter(found.federations.items()))
        config = plan.federations.get(cell)
        rounds = (
            "" if config is None else f", width {config.model.width:g}, {config.federation.rounds} rounds"
        )
        lines.append(
            f"Federations: {_cohort(results.cohort)}; {len(results.learners)} learners, "
            f"{results.unseen.participants} unseen participants (paper: 8,356 in eight learners and 2,090 "
            f"unseen){rounds}."
        )
    lines.append(f"Seed {plan.central.run.seed}. Every run folder holds its settings, report and versions.")
    seconds = sum(_seconds(found))
    if seconds:
        lines.append(
            f"All runs on this page took {duration(seconds)}, added up; independent ones ran side by side."
        )
    return lines


def _cohort(cohort: CohortSummary) -> str:
    kind = "simulated brains" if cohort.is_simulated else "scans of the given cohort"
    return (
        f"{cohort.participants:,} participants, {kind} at {cohort.voxel_mm:g} mm, {cohort.age_mean:.1f} ± "
        f"{cohort.age_sd:.1f} years"
    )


def _seconds(found: Found) -> Iterator[float]:
    for run in found.central.values():
        yield from run.results.seconds.values()
    for results in found.federations.values():
        yield from results.seconds.values()
    for shadow in found.shadows.values():
        yield shadow.seconds


def left_out_of(what: str, scale: str, plan: Plan, found: Found) -> list[str]:
    """Return what the page lacks of the paper's grid, and how the scale differs from the paper's."""
    parts = [part for part in EVERYTHING if what in {part, "all"}]
    wanted = dict.fromkeys(cell for part in parts for cell in TABLES.get(part, ()))
    lines = []
    missing = [cell for cell in wanted if cell not in found.federations]
    if missing:
        told = ", ".join(
            f"{NAMES[cell.model]} in {cell.environment}"
            for cell in sorted(missing, key=lambda c: (c.model, ENVIRONMENTS.index(c.environment)))
        )
        lines.append(
            f"Federations not run at this scale: {told}. A call of their own table runs them; `all` then "
            "shows them too."
        )
    if {"fig3", "fig7", "fig8"} & set(parts):
        for model, name in NAMES.items():
            mine = sum(
                1 for c in models_of("fig3", plan.central) if isinstance(c, Central) and c.model == model
            )
            printed = len(published_private(model))
            if mine < printed:
                lines.append(
                    f"Private models of the {name}: {mine} of the paper's {printed}, with noise of this "
                    "scale's own."
                )
    if scale != "paper":
        lines.append(
            "Fewer participants, coarser voxels, narrower networks, fewer epochs and rounds than in the "
            "paper, with learning rates and a scaled head that suit them: patterns can be compared, "
            "values cannot be expected to agree."
        )
    return lines
