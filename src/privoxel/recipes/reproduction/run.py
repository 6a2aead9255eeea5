"""``privoxel reproduce gupta2021 WHAT``: run what the tables need, and set measured beside published.

Every federation, every central model and every shadow is a run folder of its own; one that is finished is
read, so that tables share them and a killed reproduction goes on.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from privoxel.evaluation.reproduction_results import Comparison, Histograms, PaperTable
from privoxel.recipes.reproduction.cells import (
    AnyCell,
    Found,
    Plan,
    ReproduceOptions,
    is_finished,
    read_cells,
    run_cells,
)
from privoxel.recipes.reproduction.central import PARTS, central_scale, models_of
from privoxel.recipes.reproduction.central_tables import (
    appendix_e,
    figure_1,
    figure_1_table,
    table_1,
    table_3,
)
from privoxel.recipes.reproduction.claims import claims_of
from privoxel.recipes.reproduction.comparing import compare
from privoxel.recipes.reproduction.decisions import decisions
from privoxel.recipes.reproduction.environments import figure_4
from privoxel.recipes.reproduction.facts import facts_of, left_out_of
from privoxel.recipes.reproduction.private_figures import (
    PrivateModels,
    line_table,
    private_models,
    private_table,
    scatters,
)
from privoxel.recipes.reproduction.published import ENVIRONMENTS
from privoxel.recipes.reproduction.tables import EVERYTHING, Cell, cells_of, config_of
from privoxel.report.figures import Picture
from privoxel.report.reproduction import write_reproduction
from privoxel.report.reproduction_markdown import reproduction_markdown
from privoxel.store import write_json, write_text


class Reproduction(NamedTuple):
    """A table's comparison with the paper, and the pages that show it."""

    comparison: Comparison
    page: Path
    markdown: Path


def reproduce(
    what: str, scale: str, output: Path, options: ReproduceOptions, *, seed: int | None = None
) -> Reproduction:
    """Run (or read) what ``what`` needs at ``scale`` in folders under ``output``, and write its pages.

    Raises:
        ConfigError: for an unknown table or scale.
        PrivoxelError: what a run raises; finished ones are kept.
    """
    plan = plan_reproduction(what, scale, output, options, seed=seed)
    run_cells(plan, options)
    found = read_cells(with_others(plan, scale, options, seed=seed) if what == "all" else plan)
    comparison = compare_all(what, scale, plan, found)
    output.mkdir(parents=True, exist_ok=True)
    page, markdown = output / f"{what}.html", output / f"{what}.md"
    pictures: list[Picture] = []
    if what in {"fig4", "all"} and options.cohort is None:
        ages = figure_4(scale, seed)
        pictures = ages.pictures
        comparison = comparison.model_copy(update={"tables": [*comparison.tables, ages.table]})
    write_reproduction(comparison, page, pictures)
    write_text(markdown, reproduction_markdown(comparison))
    write_json(output / f"{what}.json", comparison.model_dump(mode="json"))
    return Reproduction(comparison, page, markdown)


def plan_reproduction(
    what: str, scale: str, output: Path, options: ReproduceOptions, *, seed: int | None = None
) -> Plan:
    """Return what has to be run for ``what``.

    Raises:
        ConfigError: for an unknown table or scale.
    """
    real = options.cohort is not None
    central = central_scale(scale, seed=seed, real=real)
    federations = cells_of(what, scale)
    parts = [part for part in PARTS if what in {part, "all"}]
    models = dict.fromkeys(model for part in parts for model in models_of(part, central))
    configs = {cell: config_of(scale, cell, seed=seed, real=real) for cell in federations}
    cells: tuple[AnyCell, ...] = (*federations, *models)
    return Plan(cells, configs, central, output)


def with_others(plan: Plan, scale: str, options: ReproduceOptions, *, seed: int | None = None) -> Plan:
    """Return ``plan`` with the federations that it leaves out, where an earlier call finished them."""
    real = options.cohort is not None
    others = {
        cell: config_of(scale, cell, seed=seed, real=real)
        for cell in cells_of("all", "every scale but the demo")
        if cell not in plan.federations and is_finished(plan.output / cell.name)
    }
    return replace(plan, cells=(*plan.cells, *others), federations={**plan.federations, **others})


def compare_all(what: str, scale: str, plan: Plan, found: Found) -> Comparison:
    """Return everything measured beside everything published."""
    parts = [part for part in EVERYTHING if what in {part, "all"}]
    seed = plan.central.run.seed
    private = private_models(found.central, plan.central.private.primary, seed)
    federated = compare(what, scale, found.federations)
    first = next(iter(plan.federations.values()), config_of(scale, Cell("cnn3d", ENVIRONMENTS[0])))
    return federated.model_copy(
        update={
            "facts": facts_of(plan, found),
            "tables": _tables(parts, found, private),
            "histograms": _histograms(parts, found),
            "scatters": [] if private is None else scatters(private, parts),
            "claims": claims_of(found, private, seed),
            "decisions": decisions(plan.central, first),
            "left_out": left_out_of(what, scale, plan, found),
        }
    )


def _tables(parts: Sequence[str], found: Found, private: PrivateModels | None) -> list[PaperTable]:
    central = {cell.model: run for cell, run in found.central.items() if cell.noise is None}
    tables: list[PaperTable] = []
    if central:
        made = {"table1": table_1, "table3": table_3, "fig1": figure_1_table}
        tables += [make(central) for part, make in made.items() if part in parts]
    if private is not None and {"fig3", "fig7", "fig8"} & set(parts):
        tables.append(private_table(private))
        if private.lines and "fig3" in parts:
            tables.append(line_table(private))
    if found.shadows and "appendix-e" in parts:
        tables.append(appendix_e(found.shadows))
    return tables


def _histograms(parts: Sequence[str], found: Found) -> list[Histograms]:
    central = {cell.model: run for cell, run in found.central.items() if cell.noise is None}
    return figure_1(central) if "fig1" in parts else []
