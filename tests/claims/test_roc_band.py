"""How often the simultaneous band holds the whole true ROC curve, from 3 non-members on."""

import numpy as np
import pytest
from scipy.stats import binom, norm

from privoxel.evaluation.roc import roc_curve
from tests.scores import Design, simulate

pytestmark = pytest.mark.slow

REPETITIONS = 300
DESIGNS = (
    Design(members=100, non_members=100, shift=0.0),
    Design(members=100, non_members=100, shift=1.0),
    Design(members=300, non_members=300, shift=0.5),
    Design(members=60, non_members=150, shift=1.5, most_scans=2),
)


@pytest.mark.parametrize("design", DESIGNS, ids=str)
def test_the_band_holds_the_whole_curve(design):
    rng, held = np.random.default_rng(11), 0
    for _ in range(REPETITIONS):
        curve = roc_curve(simulate(design, rng), rng, points=30, draws=500)
        read = curve.fpr >= 3 * curve.fpr[0] - 1e-9
        truth = norm.sf(norm.isf(curve.fpr) - design.shift)
        held += bool(((curve.low <= truth) & (truth <= curve.high))[read].all())
    assert held >= binom.ppf(1e-3, REPETITIONS, 0.92)
