import numpy as np
import pytest

from privoxel.evaluation.scored import Estimate, Evaluated
from tests.scores import one_repeat

MEMBERS = np.array([True, True, False, False, False])


def evaluated(**changes: np.ndarray) -> Evaluated:
    fields = {
        "scores": np.zeros((3, 5)),
        "thresholds": np.zeros(3),
        "members": MEMBERS,
        "participants": np.array([4, 4, 9, 7, 9]),
    }
    return Evaluated(**(fields | changes))


def test_participants_are_counted_once_however_often_they_were_scanned():
    assert (evaluated().n_members, evaluated().n_non_members) == (1, 2)


def test_participants_that_no_repeat_evaluates_do_not_count():
    scores = np.zeros((3, 5))
    scores[:, 3] = np.nan
    scores[1, 4] = np.nan
    assert evaluated(scores=scores).n_non_members == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"thresholds": np.zeros(2)}, r"thresholds needs 3 values, got shape \(2,\)"),
        ({"members": MEMBERS[:4]}, "members and participants need 5 values"),
        ({"participants": np.arange(6)}, "members and participants need 5 values"),
        (
            {"members": np.ones(5, dtype=bool)},
            "repeat 0 needs evaluated members and non-members, got 5 and 0",
        ),
    ],
)
def test_misaligned_or_one_sided_scores_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        evaluated(**changes)


def test_a_repeat_that_evaluates_one_class_only_is_named():
    scores = np.zeros((3, 5))
    scores[2, :2] = np.nan
    with pytest.raises(ValueError, match="repeat 2 needs evaluated members and non-members, got 0 and 3"):
        evaluated(scores=scores)


def test_an_estimate_is_withheld_with_a_reason_and_frozen():
    estimate = Estimate(None, None, None, reason="too few")
    assert estimate.level == 0.95
    with pytest.raises(AttributeError):
        estimate.value = 1.0
    with pytest.raises(AttributeError):
        one_repeat([1.0], [0.0]).members = MEMBERS
