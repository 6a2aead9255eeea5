"""Measured beside published: one row a number of the paper, each attack with its control."""

from collections.abc import Iterator, Mapping

import numpy as np

from privoxel.evaluation.federation_results import FederationResults, PairMatrix
from privoxel.evaluation.reproduction_results import ComparedCurve, ComparedPairs, ComparedRow, Comparison
from privoxel.evaluation.results import Metric
from privoxel.recipes.federation.attacking import CONTROLS
from privoxel.recipes.reproduction.published import FIGURE_5, FIGURE_5_ROUNDS, TABLE_4, published_pairs
from privoxel.recipes.reproduction.tables import TABLES, Cell

SETS_OF = {"table2": (3,), "table5": (1, 2, 3)}
SHOWN_PAIRS = frozenset({"set-3", "age-logistic", "covariates", "set-3-excess"})
PAIRS_OF = frozenset({"table6", "table7"})


def compare(what: str, scale: str, found: Mapping[Cell, FederationResults]) -> Comparison:
    """Return the comparison of ``what``: a table, a figure, or all of them."""
    parts = [part for part in TABLES if what in {part, "all"}]
    rows: list[ComparedRow] = []
    pairs: list[ComparedPairs] = []
    curves: list[ComparedCurve] = []
    for part in parts:
        for cell in (one for one in TABLES[part] if one in found):
            rows += _rows(part, cell, found[cell])
            if part in PAIRS_OF and found[cell].has_learned:
                pairs.append(_pairs(cell, found[cell]))
            curves += _curves(part, cell, found[cell])
    refused = [f"{cell.name}: {results.refusal}" for cell, results in found.items() if results.refusal]
    return Comparison(what=what, scale=scale, rows=rows, pairs=pairs, curves=curves, refused=refused)


def _rows(part: str, cell: Cell, results: FederationResults) -> Iterator[ComparedRow]:
    if part == "table4":
        train, test = TABLE_4[cell]
        utility = results.utility
        yield ComparedRow(
            part=part,
            model=cell.model,
            environment=cell.environment,
            quantity="MAE on learners' / unseen scans, years",
            measured=f"{utility.members:.2f} / {utility.non_members or 0:.2f} (null {utility.null:.2f})",
            published=f"{train:.2f} / {test:.2f}",
        )
    of = {matrix.name: matrix for matrix in results.matrices}
    for number in SETS_OF.get(part, ()):
        matrix = of.get(f"set-{number}")
        if matrix is None:
            continue
        yield ComparedRow(
            part=part,
            model=cell.model,
            environment=cell.environment,
            quantity=f"set {number}: mean of pairs above 50 % (pairs)",
            measured=_successful(matrix.mean_successful, matrix.successes),
            published=_successful(matrix.paper_successful, matrix.paper_successes),
            all_pairs=matrix.mean_all,
            control=_strongest(results),
            excess=next((m.mean_all for m in results.matrices if m.name == f"set-{number}-excess"), None),
        )


def _strongest(results: FederationResults) -> Metric | None:
    controls = [one.mean_all for one in results.matrices if one.name in CONTROLS]
    return max(controls, key=lambda metric: metric.value or 0.0, default=None)


def _successful(mean: float | None, count: int | None) -> str:
    return "none" if mean is None or count is None else f"{100 * mean:.2f} ({count})"


def _pairs(cell: Cell, results: FederationResults) -> ComparedPairs:
    names = [one.name for one in results.learners]
    shown = [
        matrix
        for matrix in results.matrices
        if matrix.name in {"set-3", "age-logistic", "covariates", "set-3-excess"}
    ]
    return ComparedPairs(
        model=cell.model,
        environment=cell.environment,
        learners=names,
        measured=shown,
        published=_published_matrix(cell, names),
    )


def _published_matrix(cell: Cell, names: list[str]) -> PairMatrix | None:
    values = published_pairs(cell.model, cell.environment)
    if {name for pair in values for name in pair} != set(names):
        return None
    above = [value for value in values.values() if value > 0.5]
    return PairMatrix(
        name="published",
        title="Published, UK Biobank",
        kind="attack",
        metric="balanced_accuracy",
        cells=[[Metric(value=values[a, v]) if (a, v) in values else None for v in names] for a in names],
        mean_all=Metric(value=float(np.mean(list(values.values())))),
        mean_successful=float(np.mean(above)),
        successes=len(above),
    )


def _curves(part: str, cell: Cell, results: FederationResults) -> Iterator[ComparedCurve]:
    if part == "fig2" and results.by_round:
        published = [(point.round, point.paper) for point in results.by_round if point.paper is not None]
        yield ComparedCurve(
            model=cell.model,
            environment=cell.environment,
            quantity="balanced accuracy, mean of all pairs",
            rounds=[point.round for point in results.by_round],
            measured=[point.mean_all.value or 0.5 for point in results.by_round],
            published_rounds=[number for number, _ in published],
            published=[value for _, value in published],
        )
    if part == "fig5":
        known = [point for point in results.rounds if point.test_mae is not None]
        yield ComparedCurve(
            model=cell.model,
            environment=cell.environment,
            quantity="MAE on unseen scans, years",
            rounds=[point.number for point in known],
            measured=[point.test_mae or 0.0 for point in known],
            published_rounds=list(FIGURE_5_ROUNDS),
            published=list(FIGURE_5[cell.environment]),
        )
