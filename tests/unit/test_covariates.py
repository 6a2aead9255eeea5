from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from privoxel.attacks.base import Knowledge, ThreatModel
from privoxel.attacks.covariates import CovariatesOnly, design_matrix
from privoxel.cohort.base import Covariates, ScanId
from tests.tables import leak, make_table


def covariates(age, sex, site):
    scans = tuple(ScanId(f"{k}") for k in range(len(age)))
    return Covariates(scans, np.array(age, dtype=float), np.array(sex), np.array(site))


def test_the_design_holds_a_cubic_in_age_and_indicators_of_the_leaked_labels():
    known = covariates([50.0, 60.0, 70.0], ["F", "M", "F"], ["a", "a", "b"])
    other = covariates([60.0, 99.0], ["M", ""], ["b", "c"])
    first, second = design_matrix(known, [known, other])
    z = 10 / np.std([50, 60, 70])
    np.testing.assert_allclose(first[0], [-z, z**2, -(z**3), 1, 0, 1, 0])
    np.testing.assert_allclose(second, [[0, 0, 0, 0, 1, 0, 1], [z, z**2, z**3, 0, 0, 0, 0]])


def test_equal_ages_do_not_divide_by_zero():
    known = covariates([60.0, 60.0], ["F", "M"], ["a", "a"])
    assert np.isfinite(design_matrix(known, [known])[0]).all()


@pytest.mark.parametrize("column", ["age", "sex", "site"])
def test_a_difference_in_any_one_covariate_is_found(column):
    table = make_table(members=150, non_members=161)
    members = table.is_member()
    shifted = {
        "age": np.where(members, 62.0, table.age),  # same mean, another spread: not linear in age
        "sex": np.where(members, "F", "M"),
        "site": np.where(members, "a", "b"),
    }
    table = replace(table, covariates=replace(table.covariates, **{column: shifted[column]}))
    split = leak(table, per_class=60)
    result = CovariatesOnly().score(split.target, Knowledge(leaked=split.leaked), np.random.default_rng(0))
    truth = split.target.is_member()
    assert roc_auc_score(truth, result.scores) > 0.85
    called = result.scores > result.threshold
    assert (called == truth).mean() > 0.75


def test_it_reads_no_signal():
    split = leak(make_table(gap=9.0), per_class=20)
    target, leaked = (replace(table, values={}) for table in split)
    result = CovariatesOnly().score(target, Knowledge(leaked=leaked), np.random.default_rng(0))
    full = CovariatesOnly().score(split.target, Knowledge(leaked=split.leaked), np.random.default_rng(0))
    np.testing.assert_array_equal(result.scores, full.scores)
    assert CovariatesOnly().threat_model is ThreatModel.NO_MODEL
