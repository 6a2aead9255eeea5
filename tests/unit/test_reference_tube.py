import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from privoxel.attacks.base import Knowledge
from privoxel.attacks.difficulty import Difficulty
from privoxel.attacks.normal_curve import fit_normal_curve, mean_below_zero
from privoxel.attacks.reference_tube import FLOOR, REFERENCE_TUBE
from privoxel.attacks.rmia import Rmia
from privoxel.attacks.tube import TUBE
from privoxel.errors import SignalError
from privoxel.signals.table import LazyArray
from tests.tables import Leak, leak, make_references, make_table, with_errors


def auc(attack, split, models=None):
    knowledge = Knowledge(leaked=split.leaked, models=models)
    scored = attack.score(split.target.blinded(), knowledge, np.random.default_rng(0))
    return roc_auc_score(split.target.is_member(), scored.scores)


def hard_and_easy(seed, *, people=400, offset=1.5):
    """Return scans unlike in difficulty, a target off by ``offset`` years and references off by others."""
    rng = np.random.default_rng(seed)
    table = make_table(members=people, non_members=people + 1, seed=seed)
    difficulty, noise = rng.normal(0, 4, len(table)), rng.normal(0, 1.5, len(table))
    errors = np.where(table.is_member(), 0.5, 1.0) * difficulty + noise + offset
    models = make_references(table, models=5, seed=seed)
    others = difficulty + rng.normal(0, 1.5, (5, len(table))) + np.arange(5)[:, None]
    models = replace(models, values={"prediction": LazyArray((models.age + others)[:, None])})
    outside = replace(models, membership=np.zeros_like(models.membership))
    return leak(with_errors(table, errors), per_class=100, seed=seed), outside


def test_scores_are_log_ratios_of_normals_fitted_to_each_class_scan_by_scan():
    table = make_table(gap=2.0, seed=4)
    split, models = leak(table, per_class=20), make_references(table, models=5, gap=2.0)
    found = REFERENCE_TUBE.score(
        split.target, Knowledge(leaked=split.leaked, models=models), np.random.default_rng(0)
    )
    centres = [
        np.median(
            [r for r, inside in zip(models.error(model=k), models.membership[k], strict=True) if not inside]
        )
        for k in range(5)
    ]

    def values(scans: Leak):
        rows = []
        for scan, age, error in zip(scans.scans, scans.age, scans.error(), strict=True):
            row = models.scans.index(scan)
            out = [
                models.error(model=k)[row] - centres[k] for k in range(5) if models.membership[k][row] == 0
            ]
            mean_square = sum(r * r for r in out) / len(out)
            rows.append((error, age, sum(out) / len(out), math.log(mean_square + FLOOR**2)))
        return np.array(rows)

    known, unknown, members = values(split.leaked), values(split.target), split.leaked.is_member()
    means, sds = known[:, 1:].mean(axis=0), known[:, 1:].std(axis=0)

    def bases(rows):
        z = (np.clip(rows[:, 1], known[:, 1].min(), known[:, 1].max()) - means[0]) / sds[0]
        m, d = (rows[:, 2] - means[1]) / sds[1], (rows[:, 3] - means[2]) / sds[2]
        return np.column_stack([z, z**2 - 1, m]), np.column_stack([z, d])

    curves = []
    for state, slope in ((True, 0.0), (False, 1.0)):
        fit = known[members == state]
        curves.append(fit_normal_curve(fit[:, 0] - slope * fit[:, 2], *bases(fit)))
    basis, spread = bases(unknown)
    expected = []
    for row, (error, _, mean_of_references, _) in enumerate(unknown):
        centre, v = zip(
            *(
                (c.mean[0] + c.mean[1:] @ basis[row], c.log_variance[0] + c.log_variance[1:] @ spread[row])
                for c in curves
            ),
            strict=True,
        )
        step = math.sqrt(2 / 20 + 2 / 20)
        inside = v[1] + step * mean_below_zero((v[0] - v[1]) / step)
        expected.append(
            norm.logpdf(error, centre[0], math.exp(inside / 2))
            - norm.logpdf(error, centre[1] + mean_of_references, math.exp(v[1] / 2))
        )
    np.testing.assert_allclose(found.scores, expected, rtol=1e-6, atol=1e-6)


def test_it_reads_what_neither_the_tube_nor_references_alone_can():
    gains = []
    for seed in range(4):
        split, models = hard_and_easy(seed)
        alone = max(auc(TUBE, split), auc(Rmia(), split, models), auc(Difficulty(), split, models))
        gains.append(auc(REFERENCE_TUBE, split, models) - alone)
    assert np.mean(gains) > 0.02


def test_references_that_know_nothing_cost_little():
    losses = []
    for seed in range(6):
        table = make_table(members=200, non_members=201, gap=1.0, seed=seed)
        noise = make_references(table, models=4, seed=seed)
        guess = np.random.default_rng(seed).normal(0, 4, (4, 1, len(table)))
        noise = replace(noise, values={"prediction": LazyArray(noise.age + guess)})
        split = leak(table, per_class=50, seed=seed)
        losses.append(auc(TUBE, split) - auc(REFERENCE_TUBE, split, noise))
    assert np.mean(losses) < 0.02


def test_gross_errors_are_no_members_though_the_leaked_ones_look_wide():
    tops = []
    for seed in range(12):
        table = make_table(members=150, non_members=151, gap=0.3, seed=seed)
        split = leak(table, per_class=25, seed=seed)
        gross = split.target.error()
        gross[:2] = 25.0, -25.0
        models = make_references(table, models=4, seed=seed)
        scores = REFERENCE_TUBE.score(
            with_errors(split.target, gross), Knowledge(split.leaked, models), np.random.default_rng(0)
        ).scores
        tops.append((scores[:2] > np.quantile(scores, 0.95)).any())
    assert sum(tops) == 0


def test_a_scan_that_every_reference_was_trained_on_is_an_error():
    table = make_table(seed=1)
    split, models = leak(table, per_class=20), make_references(table, models=3)
    inside = replace(models, membership=np.ones_like(models.membership))
    with pytest.raises(SignalError, match="reference-tube needs at least 1 OUT references"):
        REFERENCE_TUBE.score(
            split.target, Knowledge(leaked=split.leaked, models=inside), np.random.default_rng(0)
        )
