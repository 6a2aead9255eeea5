import numpy as np
import pytest

from privoxel.attacks import WITH_STATED_SD, get_attack
from privoxel.attacks.base import Knowledge
from privoxel.errors import SignalError
from privoxel.signals.table import LazyArray
from tests.tables import leak, make_table

ATTACK = WITH_STATED_SD["stated-likelihood"]


def test_the_score_is_the_gaussian_log_density():
    table = make_table(members=5, non_members=6)
    sd = table.read("stated-sd").astype(np.float64)
    expected = [-0.5 * (e / s) ** 2 - np.log(s) for e, s in zip(table.error(), sd, strict=True)]
    found = ATTACK.score(table, Knowledge(), np.random.default_rng(0))
    np.testing.assert_allclose(found.scores, expected, rtol=1e-6)
    assert found.threshold == np.median(found.scores)


def test_a_standard_deviation_of_zero_is_refused():
    table = make_table(members=5, non_members=6)
    zero = LazyArray(np.zeros((1, 3, 11), dtype=np.float32))
    broken = type(table)(
        table.covariates, table.models, table.snapshots, table.membership, {**table.values, "stated-sd": zero}
    )
    with pytest.raises(SignalError, match="needs positive standard deviations, got 11 scans"):
        ATTACK.score(broken, Knowledge(), np.random.default_rng(0))


def test_centred_it_is_the_density_around_the_members_median():
    split = leak(make_table(members=40, non_members=43, gap=2.0), per_class=15)
    target, leaked = split.target, split.leaked
    sd = target.read("stated-sd").astype(np.float64)
    moved = target.error() - np.median(leaked.error()[leaked.is_member()])
    form = get_attack("centred-stated-likelihood")
    found = form.score(target.blinded(), Knowledge(leaked=leaked), np.random.default_rng(0))
    np.testing.assert_allclose(found.scores, -0.5 * (moved / sd) ** 2 - np.log(sd), rtol=1e-5)
    assert get_attack("tube-centred-stated-likelihood").requires == ATTACK.requires
