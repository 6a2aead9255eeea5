import numpy as np
import pytest

from privoxel.cohort.base import Covariates, ScanId
from privoxel.errors import ConfigError
from privoxel.recipes.matched import match_groups, parse_match


def people(ages, sex=None, site=None, scans_each=1):
    n = len(ages)
    scans = tuple(ScanId(str(k), str(s)) for k in range(n) for s in range(scans_each))
    labels = [np.repeat(np.array(x or [""] * n), scans_each) for x in (sex, site)]
    return Covariates(scans, np.repeat(np.array(ages, dtype=float), scans_each), *labels)


def test_pairs_are_of_one_sex_and_site_and_nearly_one_age():
    rng = np.random.default_rng(0)
    n = 211
    group = people(rng.uniform(45, 80, n), list(rng.choice(["F", "M"], n)), list(rng.choice(["A", "B"], n)))
    members = rng.random(n) < 0.3
    matched = match_groups(group, members, ("age", "sex", "site"), rng, caliper=2.0)
    kept = matched.kept
    assert (kept & members).sum() == (kept & ~members).sum() == matched.pairs > 30
    assert matched.members_left == (members & ~kept).sum()
    assert matched.non_members_left == (~members & ~kept).sum()
    for sex in "FM":
        for site in "AB":
            inside = kept & (group.sex == sex) & (group.site == site)
            ages = [np.sort(group.age[inside & (members == state)]) for state in (True, False)]
            assert len(ages[0]) == len(ages[1])
            np.testing.assert_allclose(ages[0], ages[1], atol=2.0)


def test_who_has_no_partner_is_left_out_with_all_scans():
    group = people([50, 51, 70, 50.5], scans_each=2)
    members = np.repeat([True, False, True, False], 2)
    matched = match_groups(group, members, ("age",), np.random.default_rng(0))
    assert matched.pairs == 1
    assert not matched.kept[4:6].any()
    assert matched.kept.sum() == 4


def test_matching_without_age_keeps_as_many_of_each_group():
    group = people([50, 60, 70, 80, 90], ["F", "F", "F", "M", "M"])
    members = np.array([True, False, False, True, True])
    matched = match_groups(group, members, ("sex",), np.random.default_rng(0))
    assert (matched.pairs, matched.members_left, matched.non_members_left) == (1, 2, 1)


def test_a_column_without_values_cannot_be_matched_on():
    with pytest.raises(ConfigError, match=r"--match age,sex needs a column 'sex' with values"):
        match_groups(people([50, 60]), np.array([True, False]), ("age", "sex"), np.random.default_rng(0))


def test_the_list_is_read_and_unknown_names_are_refused():
    assert parse_match(" Age,site,age") == ("age", "site")
    for text in ("age,scanner", ","):
        with pytest.raises(ConfigError, match="--match needs a list of age, sex, site"):
            parse_match(text)
