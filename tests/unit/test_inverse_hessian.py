from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from privoxel.attacks.base import Knowledge
from privoxel.attacks.inverse_hessian import InverseHessian, Layer, inverse_hessian_terms
from tests.tables import leak, make_table, with_errors, with_signal

IHA = InverseHessian()


def output_layer(rng, scans, errors, weights=5):
    """Return the gradients 2 r φ of a linear output layer, φ positive as after a ReLU."""
    return 2.0 * errors[:, None] * np.abs(rng.normal(1.0, 0.2, (scans, weights)))


def test_the_terms_are_those_of_explicit_inverses_scan_by_scan(rng):
    gradients, mean = rng.normal(0, 3, (11, 4)), rng.normal(0, 1, 4)
    root = rng.normal(0, 1, (4, 4))
    curvature = root @ root.T + np.eye(4)
    inverse = np.linalg.inv(curvature)
    slow = [[g @ inverse @ inverse @ g, mean @ inverse @ inverse @ g] for g in gradients]
    np.testing.assert_allclose(inverse_hessian_terms(gradients, mean, curvature), slow, rtol=1e-9)


def test_at_the_stability_limit_the_signed_term_centres_the_loss_on_the_members(rng):
    """With equal embeddings, 1/η = λ/2 and many scans: −(r − r̄)² up to a constant, in closed form."""
    embedding = np.array([0.5, 1.0, 2.0])
    errors, inside = rng.normal(0, 4, 13), rng.normal(1.5, 1, 4000)
    scans, members = (Layer(2.0 * r[:, None] * embedding, r) for r in (errors, inside))
    others = Layer(*members)
    found = IHA._scores(scans, members, others, damping=1e-9, rate=0.5)
    centred = -((errors - inside.mean()) ** 2) + inside.mean() ** 2
    np.testing.assert_allclose(found, centred, rtol=2e-3, atol=2e-2)


def test_a_model_that_is_off_is_centred_without_being_told():
    rng = np.random.default_rng(5)
    table = make_table(members=200, non_members=201, gap=3.0, seed=2)
    table = with_errors(table, table.error() + 3.0)
    table = with_signal(table, "gradient:output", output_layer(rng, len(table), table.error()))
    split = leak(table, per_class=100)
    known = Knowledge(leaked=split.leaked)
    truth, scores = split.target.is_member(), IHA.score(split.target, known, rng).scores
    plain = roc_auc_score(truth, -np.abs(split.target.error()))
    assert roc_auc_score(truth, scores) > plain + 0.1


def test_damping_and_rate_depend_on_the_leaked_scans_alone():
    split = leak(make_table(gap=2.0), per_class=20)
    known = Knowledge(leaked=split.leaked)
    noise = with_errors(split.target, np.random.default_rng(3).normal(0, 9, len(split.target)))
    notes = [IHA.score(t, known, np.random.default_rng(0)).notes for t in (split.target, noise)]
    assert notes[0] == notes[1]
    assert notes[0][0].startswith("inverse-hessian damping=")


def test_the_number_of_training_scans_may_be_told():
    split = leak(make_table(gap=2.0), per_class=20)
    known = Knowledge(leaked=split.leaked)
    many = replace(IHA, training_scans=10**9)
    first, second = (
        attack.score(split.target, known, np.random.default_rng(0)).scores for attack in (IHA, many)
    )
    assert not np.allclose(first, second)


def test_a_population_makes_the_curvature_where_there_is_one():
    split = leak(make_table(gap=1.0), per_class=20)
    given = Knowledge(leaked=split.leaked, population=make_table(members=0, non_members=50, seed=8))
    first, second = (
        IHA.score(split.target, known, np.random.default_rng(0)).scores
        for known in (given, Knowledge(leaked=split.leaked))
    )
    assert not np.allclose(first, second)


@pytest.mark.parametrize("per_class", [2, 3])
def test_few_leaked_participants_are_enough(per_class):
    split = leak(make_table(gap=2.0), per_class=per_class)
    found = IHA.score(split.target, Knowledge(leaked=split.leaked), np.random.default_rng(0))
    assert np.isfinite(found.scores).all()
