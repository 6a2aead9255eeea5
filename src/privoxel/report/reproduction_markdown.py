"""The page of a reproduction as Markdown: the same content as the HTML page, figures as their numbers."""

from collections.abc import Iterator, Sequence

from privoxel.evaluation.federation_results import PairMatrix
from privoxel.evaluation.reproduction_results import ComparedCurve, ComparedPairs, ComparedRow, Comparison
from privoxel.report.federation import ENVIRONMENTS, percent
from privoxel.report.reproduction import WHAT, shown_cell
from privoxel.report.tables import DASH


def reproduction_markdown(comparison: Comparison) -> str:
    """Return the page as Markdown, from its title to what was decided where the paper is silent."""
    return "\n".join(_lines(comparison)).rstrip() + "\n"


def _lines(comparison: Comparison) -> Iterator[str]:
    yield f"## {WHAT[comparison.what]} (scale `{comparison.scale}`)"
    yield ""
    for line in (*comparison.facts, *comparison.left_out):
        yield f"- {line}"
    for line in comparison.refused:
        yield f"- **No privacy number** for {line}"
    yield ""
    yield from _claims(comparison)
    for table in comparison.tables:
        yield from (f"### {table.title}", "", table.caption, "")
        rows = ([line.label, *map(shown_cell, line.cells)] for line in table.lines)
        yield from _table(["", *table.columns], rows)
    yield from _federations(comparison.rows)
    for curve in comparison.curves:
        yield from _curve(curve)
    for pairs in comparison.pairs:
        yield from _pairs(pairs)
    yield from _decisions(comparison)


def _claims(comparison: Comparison) -> Iterator[str]:
    if not comparison.claims:
        return
    yield from ("### Which claims hold on our cohorts, and which are artefacts", "")
    yield "Every ruling follows from the numbers beside it by the rule that is printed; intervals are 95 %,"
    yield from ("over participants, and not corrected for the number of claims.", "")
    rows = (
        [f"{one.claim} ({one.source})", one.published, one.measured, one.rule, f"**{one.ruling}**"]
        for one in comparison.claims
    )
    yield from _table(["claim", "published", "measured", "rule", "ruling"], rows)


def _federations(rows: Sequence[ComparedRow]) -> Iterator[str]:
    if not rows:
        return
    yield from ("### Federations", "")
    yield "The paper averages pairs above 50 % only, which noise alone lifts. Beside it: all pairs with the"
    yield "95 % interval, what the strongest control without any model finds on the same people (%), and the"
    yield "difference of the two (points)."
    yield ""
    heads = ["", "federation", "quantity", "measured", "published", "all pairs", "control", "difference"]
    yield from _table(
        heads,
        (
            [
                WHAT[row.part].split(":")[0] if row.part else "",
                f"{row.model}, {row.environment}",
                row.quantity,
                row.measured,
                row.published,
                percent(row.all_pairs),
                percent(row.control),
                percent(row.excess),
            ]
            for row in rows
        ),
    )


def _curve(curve: ComparedCurve) -> Iterator[str]:
    scale, digits = (1.0, 2) if "years" in curve.quantity else (100.0, 1)
    unit = "" if scale == 1.0 else " (%)"
    yield from (f"### {curve.model}, {curve.environment}: {curve.quantity}{unit} by round", "")
    published = dict(zip(curve.published_rounds, curve.published, strict=True))
    measured = dict(zip(curve.rounds, curve.measured, strict=True))
    rounds = sorted({*measured, *published})

    def row(name: str, values: dict[int, float]) -> list[str]:
        return [name, *(f"{scale * values[n]:.{digits}f}" if n in values else DASH for n in rounds)]

    yield from _table(["round", *map(str, rounds)], [row("measured", measured), row("published", published)])


def _pairs(pairs: ComparedPairs) -> Iterator[str]:
    environment = ENVIRONMENTS.get(pairs.environment, pairs.environment)
    yield from (f"### {pairs.model}, every learner on every other. {environment}", "")
    for matrix in (*pairs.measured, pairs.published):
        if matrix is not None:
            yield from _matrix(matrix, pairs.learners)


def _matrix(matrix: PairMatrix, learners: Sequence[str]) -> Iterator[str]:
    unit = "percentage points" if matrix.kind == "excess" else "%"
    yield from (
        f"{matrix.title} ({unit}); rows attack, columns are attacked; mean {percent(matrix.mean_all)}.",
        "",
    )
    rows = (
        [name, *(DASH if cell is None or cell.value is None else f"{100 * cell.value:.1f}" for cell in cells)]
        for name, cells in zip(learners, matrix.cells, strict=True)
    )
    yield from _table(["", *learners], rows)


def _decisions(comparison: Comparison) -> Iterator[str]:
    if comparison.decisions:
        yield from ("### What was decided where the paper is silent", "")
        yield from _table(
            ["question", "decided"], ([one.question, one.decided] for one in comparison.decisions)
        )


def _table(heads: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> Iterator[str]:
    yield _row(heads)
    yield _row(["---"] * len(heads))
    yield from map(_row, rows)
    yield ""


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
