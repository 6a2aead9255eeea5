"""What the pair matrices of a federation say, in plain sentences."""

from collections.abc import Sequence

import numpy as np

from privoxel.evaluation.federation_results import PairMatrix
from privoxel.evaluation.pairs import HALF
from privoxel.evaluation.results import Metric
from privoxel.recipes.federation.attacking import CONTROLS

MATCHED_EXCESS = "-matched-excess"


def findings(matrices: Sequence[PairMatrix], primary: str) -> list[str]:
    """Return what the pairs say in plain sentences: the leak, and what distribution shift explains.

    ``primary`` names the attack that was chosen beforehand. What another one finds where that finds nothing
    comes first.
    """
    of = {matrix.name: matrix for matrix in matrices}
    attack, excess = of[primary], of[f"{primary}-excess"]
    control = max((of[name] for name in CONTROLS), key=lambda one: one.mean_all.value or 0.0)
    judged = of.get(f"{primary}{MATCHED_EXCESS}", excess)
    is_matched, size = judged is not excess, len(attack.cells)
    elsewhere = _found_by_others(matrices, judged)
    none = f"{_name_of(primary).capitalize()} shows no leak" if elsewhere else "No leak is shown"
    found = [*elsewhere, _leak_sentence(judged.mean_all, none, is_matched=is_matched)]
    found.append(
        f"Over all {size * (size - 1)} pairs the attack is right {_percent(attack.mean_all)} of the time, "
        f"the strongest control without any model {_percent(control.mean_all)}; guessing is 50 %."
    )
    pairs = zip(_values(attack), _values(control), strict=True)
    above = [(a, c) for a, c in pairs if a is not None and c is not None and a > HALF]
    if above:
        share = np.mean([c - HALF for _, c in above]) / np.mean([a - HALF for a, _ in above])
        found.append(
            f"Among the pairs above 50 % ({len(above)}), distribution shift explains "
            f"{100 * float(np.clip(share, 0, 1)):.0f} % of what lies above guessing: that control finds "
            "as much on the same people."
        )
    return found


def _found_by_others(matrices: Sequence[PairMatrix], judged: PairMatrix) -> list[str]:
    """Return what another attack finds where the primary one finds nothing."""
    leaking = [
        matrix
        for matrix in matrices
        if matrix.name.endswith(MATCHED_EXCESS) and matrix is not judged and (matrix.mean_all.low or 0.0) > 0
    ]
    if (judged.mean_all.low or 0.0) > 0 or not leaking:
        return []
    most = max(leaking, key=lambda one: one.mean_all.low or 0.0)
    name = _name_of(most.name.removesuffix(MATCHED_EXCESS))
    return [
        f"The community models leak to {name}, though not to the set chosen beforehand: among people of "
        f"equal ages it beats every control by {_points(most.mean_all)}, an interval widened for the number "
        "of sets."
    ]


def _name_of(attack: str) -> str:
    return attack.replace("-", " ")


def _leak_sentence(excess: Metric, none: str, *, is_matched: bool) -> str:
    low, high, told = excess.low or 0.0, excess.high or 0.0, _points(excess)
    where = "among people of equal ages" if is_matched else "on the same people"
    if low > 0:
        return f"The community models leak: {where} the attack beats every control, by {told}."
    if high < 0:
        return f"{none}: {where} the attack does worse than a control without any model, by {told}."
    return f"{none}: {where} the attack does no better than a control without any model: {told}."


def _points(excess: Metric) -> str:
    value, low, high = (100 * (number or 0.0) for number in (excess.value, excess.low, excess.high))
    return f"{value:+.1f} points ({low:+.1f} to {high:+.1f})"


def _percent(metric: Metric) -> str:
    value, low, high = (100 * (number or 0.0) for number in (metric.value, metric.low, metric.high))
    return f"{value:.1f} % ({low:.1f}–{high:.1f})"


def _values(matrix: PairMatrix) -> list[float | None]:
    return [None if cell is None else cell.value for row in matrix.cells for cell in row]
