import numpy as np
import pytest

from privoxel.attacks.folds import leaked_folds, out_of_fold, stratified_folds
from privoxel.errors import SignalError
from tests.tables import leak, make_table


def test_folds_hold_whole_participants_and_equal_shares_of_each_class():
    leaked = make_table(members=23, non_members=31, scans_each=2)
    folds = leaked_folds(leaked, np.random.default_rng(0))
    people = leaked.covariates.participant_index
    assert all(len(np.unique(folds[people == person])) == 1 for person in np.unique(people))
    for state, expected in ((True, [4, 4, 5, 5, 5]), (False, [6, 6, 6, 6, 7])):
        sizes = np.bincount(folds[leaked.is_member() == state], minlength=5) // 2
        assert sorted(sizes) == expected


def test_folds_change_with_the_stream_and_only_with_it():
    leaked = make_table(members=23, non_members=31)
    first, again, other = (leaked_folds(leaked, np.random.default_rng(seed)) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_there_are_no_more_folds_than_participants_of_a_class():
    leaked = leak(make_table(members=40, non_members=41), per_class=3).leaked
    folds = leaked_folds(leaked, np.random.default_rng(0))
    assert sorted(np.unique(folds)) == [0, 1, 2]


def test_one_leaked_member_is_too_few():
    table = make_table(members=7, non_members=9)
    rows = np.r_[np.flatnonzero(table.is_member())[:1], np.flatnonzero(~table.is_member())]
    with pytest.raises(SignalError, match="at least 2 leaked members and 2 leaked non-members, got 1 and 9"):
        leaked_folds(table.select(rows), np.random.default_rng(0))


def test_no_scan_is_scored_by_a_fit_that_saw_its_fold():
    folds = stratified_folds(
        np.arange(13) < 6, np.arange(13, dtype=np.int64), np.random.default_rng(0), folds=3
    )
    seen = np.zeros((13, 13), dtype=bool)

    def score(fit, rows):
        seen[np.ix_(rows, fit)] = True
        return rows * 10.0

    scores = out_of_fold(score, folds)
    np.testing.assert_array_equal(scores, np.arange(13) * 10.0)
    np.testing.assert_array_equal(seen, folds[:, None] != folds[None, :])
