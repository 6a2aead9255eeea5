"""Site attribution: which learner holds this participant? And what age alone would answer."""

import numpy as np

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.attacks.covariates import design_matrix
from privoxel.cohort.base import Covariates


def attribute(scores: FloatArray) -> IntArray:
    """Return the learner with the highest score (learners × scans) for each scan; ties go to the first."""
    return np.asarray(scores.argmax(axis=0), dtype=np.int64)


def attribute_by_age(known: Covariates, learner: IntArray, target: Covariates) -> IntArray:
    """Return the likeliest learner of each scan of ``target`` given a cubic in age: the control.

    ``learner`` holds the learner of each scan of ``known``, whose participants must not be in ``target``.
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - listing attacks stays quick

    designs = [design[:, :3] for design in design_matrix(known, [known, target])]
    fitted = LogisticRegression(max_iter=2000).fit(designs[0], learner)
    return np.asarray(fitted.predict(designs[1]), dtype=np.int64)


def age_odds(known: Covariates, is_member: BoolArray, target: Covariates) -> FloatArray:
    """Return log-odds, given a cubic in age, that scans of ``target`` are like the known members."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - listing attacks stays quick

    designs = [design[:, :3] for design in design_matrix(known, [known, target])]
    fitted = LogisticRegression(max_iter=2000).fit(designs[0], is_member)
    return np.asarray(fitted.decision_function(designs[1]), dtype=np.float64)
