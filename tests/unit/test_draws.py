import numpy as np
import pytest

from privoxel.errors import ConfigError
from privoxel.evaluation.draws import audit_draws, pseudo_members, reproduction_draws


def scans(members, non_members, excluded=0, *, sessions=2):
    """Return membership and participant codes; the first participants are members, codes are shuffled."""
    state = np.repeat([1, 0, -1], [members, non_members, excluded])
    codes = np.random.default_rng(0).permutation(1000)[: len(state)]
    order = np.random.default_rng(1).permutation(len(state) * sessions)
    return np.tile(state, sessions)[order].astype(np.int8), np.tile(codes, sessions)[order]


def counts(mask, membership, codes):
    return [len(set(codes[mask & (membership == state)])) for state in (1, 0, -1)]


def test_a_reproduction_leaks_and_evaluates_the_papers_shares(rng):
    membership, codes = scans(29, 25, 5)
    draws = reproduction_draws(membership, codes, repeats=7, rng=rng)
    assert len(draws) == 7
    for draw in draws:
        assert counts(draw.leaked, membership, codes) == [17, 17, 0]
        assert counts(draw.evaluated, membership, codes) == [8, 8, 0]


def test_leaked_and_evaluated_never_share_a_participant(rng):
    membership, codes = scans(29, 25, 5, sessions=3)
    draws = [
        *reproduction_draws(membership, codes, repeats=5, rng=rng),
        *audit_draws(membership, codes, rng=rng),
    ]
    for draw in draws:
        assert not set(codes[draw.leaked]) & set(codes[draw.evaluated])
        for mask in draw:
            assert set(codes[mask]).isdisjoint(codes[~mask])


def test_every_repeat_draws_anew_from_the_larger_group_too(rng):
    membership, codes = scans(60, 20)
    draws = reproduction_draws(membership, codes, repeats=20, rng=rng)
    used = set().union(*(set(codes[d.leaked | d.evaluated]) for d in draws))
    assert len(used) > 75
    assert len({d.leaked.tobytes() for d in draws}) == 20


def test_an_audit_scores_everyone_at_least_three_times(rng):
    membership, codes = scans(30, 37, 5)
    draws = audit_draws(membership, codes, rng=rng)
    assert [counts(d.leaked, membership, codes) for d in draws] == [[7, 7, 0]] * 4
    times = np.sum([d.evaluated for d in draws], axis=0)
    assert set(times[membership == -1]) == {0}
    assert set(times[membership != -1]) == {3, 4}
    for draw in draws:
        np.testing.assert_array_equal(draw.leaked | draw.evaluated, membership != -1)


def test_with_coins_who_is_leaked_follows_from_no_membership():
    membership, codes = scans(40, 21, sessions=1)
    people = np.unique(codes)
    swapped = np.where(membership == 1, 0, 1)
    draws, again = (
        audit_draws(m, codes, rng=np.random.default_rng(5), coin=True) for m in (membership, swapped)
    )
    for one, other in zip(draws, again, strict=True):
        np.testing.assert_array_equal(one.leaked, other.leaked)
        assert one.leaked.sum() == len(people) // 4
        np.testing.assert_array_equal(one.leaked, ~one.evaluated)
    plain = audit_draws(membership, codes, rng=np.random.default_rng(5))
    assert len({int((d.leaked & (membership == 1)).sum()) for d in plain}) == 1
    assert len({int((d.leaked & (membership == 1)).sum()) for d in draws}) > 1


def test_too_few_for_draws_by_coins_are_explained(rng):
    with pytest.raises(ConfigError, match="needs 2 members and 2 non-members leaked"):
        audit_draws(*scans(40, 8), rng=rng, coin=True)


def test_an_audit_leaks_at_most_100_a_class(rng):
    membership, codes = scans(450, 500, sessions=1)
    draws = audit_draws(membership, codes, rng=rng)
    assert [counts(d.leaked, membership, codes) for d in draws] == [[100, 100, 0]] * 4
    assert not np.any(np.sum([d.leaked for d in draws], axis=0) > 1)


def test_pseudo_members_are_half_of_the_non_members(rng):
    membership, codes = scans(30, 25, 5)
    pseudo = pseudo_members(membership, codes, rng)
    assert (pseudo[membership != 0] == -1).all()
    assert counts(pseudo == 1, membership, codes) == [0, 12, 0]
    assert counts(pseudo == 0, membership, codes) == [0, 13, 0]
    assert set(codes[pseudo == 1]).isdisjoint(codes[pseudo == 0])


def test_the_same_stream_draws_the_same():
    membership, codes = scans(29, 25)
    pairs = [reproduction_draws(membership, codes, repeats=3, rng=np.random.default_rng(5)) for _ in range(2)]
    for one, other in zip(*pairs, strict=True):
        np.testing.assert_array_equal(one.leaked, other.leaked)
        np.testing.assert_array_equal(one.evaluated, other.evaluated)


def test_participants_may_be_named_by_text(rng):
    membership, codes = scans(9, 11)
    draws = audit_draws(membership, [f"sub-{c}" for c in codes], rng=rng)
    assert counts(draws[0].leaked, membership, codes) == [2, 2, 0]


def test_too_few_participants_are_explained(rng):
    with pytest.raises(ConfigError, match="at least 2 members and 2 non-members, got 1 and 25"):
        reproduction_draws(*scans(1, 25), repeats=1, rng=rng)
    with pytest.raises(ConfigError, match="at least 8 members and as many non-members"):
        audit_draws(*scans(7, 25), rng=rng)
    with pytest.raises(ConfigError, match="at least 2 non-members, got 1"):
        pseudo_members(*scans(7, 1), rng)


def test_a_participant_on_both_sides_is_refused(rng):
    membership, codes = scans(9, 11)
    membership[0] = 1 - membership[0]
    with pytest.raises(ValueError, match="one membership a participant, got 1 with several"):
        audit_draws(membership, codes, rng=rng)
    with pytest.raises(ValueError, match="memberships of 1, 0 or -1"):
        audit_draws(np.full(20, 3), np.arange(20), rng=rng)
    with pytest.raises(ValueError, match="one membership and one participant a scan"):
        audit_draws(np.ones(3), np.arange(20), rng=rng)
