"""Who goes where: the paper's sizes and ages, its scripts' rules, and their scaled versions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privoxel.cohort.base import Covariates, ScanId
from privoxel.cohort.dealing import (
    NEAREST_SHARE,
    AgeTargets,
    cells_in_turn,
    equal_sizes,
    log_mixtures,
    log_share_of_years,
    nearest_in_turn,
    skewed_sizes,
)
from privoxel.cohort.demographics import simulated_covariates
from privoxel.cohort.effects import SimulatorConfig
from privoxel.cohort.environments import (
    SKEWED_AGES,
    UNIFORM_AGES,
    by_site,
    dirichlet_over_age,
    draw_partition,
    skewed_non_iid,
    uniform_iid,
    uniform_non_iid,
)
from privoxel.cohort.partitions import hold_out_unseen
from privoxel.config import PartitionConfig
from privoxel.errors import ConfigError
from tests.unit.test_partitions import cohort_of

DRAWN = (uniform_iid, uniform_non_iid, skewed_non_iid, dirichlet_over_age)
DRAWN_NAMES = ("uniform-iid", "uniform-non-iid", "skewed-non-iid", "dirichlet")
SKEWED = (2401, 1765, 1303, 964, 714, 528, 391, 290)
# Gupta et al. 2021, Fig. 4: mean and SD of the ages of L1 … L8
PUBLISHED = {
    "uniform-iid": (
        (62.63, 62.64, 62.62, 62.63, 62.65, 62.65, 62.65, 62.63),
        (7.57, 7.42, 7.39, 7.39, 7.40, 7.39, 7.39, 7.39),
    ),
    "uniform-non-iid": (
        (68.79, 65.76, 60.48, 55.37, 68.81, 66.00, 60.54, 55.36),
        (5.19, 5.31, 5.60, 5.17, 4.95, 5.36, 5.87, 5.23),
    ),
    "skewed-non-iid": (
        (66.46, 64.50, 58.37, 53.45, 70.82, 65.91, 56.54, 51.57),
        (4.87, 5.25, 5.37, 3.66, 4.11, 6.73, 6.10, 3.40),
    ),
}


@pytest.fixture(scope="module")
def biobank() -> Covariates:
    """As many participants as the paper had, of simulated ages with its mean, SD and range."""
    return simulated_covariates(SimulatorConfig(seed=3), range(1, 10_447))


def ages_of(covariates, group):
    age = dict(zip((s.participant for s in covariates.scans), covariates.age, strict=True))
    return np.array([age[name] for name in group])


@pytest.mark.parametrize(
    ("environment", "sizes", "tolerance"),
    [
        ("uniform-iid", None, (0.25, 0.25)),
        ("uniform-non-iid", (1045,) * 4 + (1044,) * 4, (0.9, 1.1)),
        ("skewed-non-iid", SKEWED, (1.0, 0.8)),
    ],
)
def test_sizes_are_exactly_and_ages_nearly_those_of_the_papers_figure(biobank, environment, sizes, tolerance):
    """Years; the simulated ages are not the paper's, and its generators were seeded differently."""
    partition = draw_partition(PartitionConfig(environment=environment), biobank, np.random.default_rng(1990))
    assert sum(partition.sizes) == 8356
    assert len(partition.unseen) == 2090
    assert sizes is None or partition.sizes == sizes
    ages = [ages_of(biobank, group) for group in partition.groups]
    means, sds = PUBLISHED[environment]
    assert max(abs(a.mean() - mean) for a, mean in zip(ages, means, strict=True)) < tolerance[0]
    assert max(abs(a.std() - sd) for a, sd in zip(ages, sds, strict=True)) < tolerance[1]


def test_uniform_iid_takes_the_floor_of_each_bin_and_gives_the_rest_to_one(rng):
    """Twenty fixed bins of 8,356 participants whose remainders sum to 60, as the paper's must."""
    eighths = [20, 25, 33, 40, 46, 52, 57, 60, 64, 66, 68, 68, 68, 66, 63, 60, 55, 50, 40, 36]
    counts = 8 * np.array(eighths) + 3
    centres = np.linspace(45, 80, 41)[1::2]
    ages = np.repeat(centres, counts)
    ages[0], ages[-1] = 45.0, 80.0
    assert (counts % 8).sum() == 60
    partition = uniform_iid(cohort_of(ages), rng)
    assert partition.sizes == (1097, *[1037] * 7)
    edges = np.linspace(45, 80, 21)
    held = [np.histogram(ages[[int(n[1:]) for n in g]], edges)[0].tolist() for g in partition.groups]
    assert held[1:] == [(counts // 8).tolist()] * 7
    assert held[0] == (counts // 8 + counts % 8).tolist()


def test_uniform_iid_of_a_small_cohort_spreads_what_the_bins_leave(rng):
    partition = uniform_iid(cohort_of(rng.normal(62, 7, 403)), rng)
    assert max(partition.sizes) - min(partition.sizes) <= 1
    assert sum(partition.sizes) == 403


@pytest.mark.parametrize("generator", DRAWN)
@pytest.mark.parametrize("sizes", [(1037,) * 7 + (1097,), (1045,) * 4 + (1044,) * 4, SKEWED, (50, 20, 9)])
def test_sizes_asked_for_are_given(biobank, rng, generator, sizes):
    training = hold_out_unseen(biobank, rng)
    partition = generator(biobank, rng, learners=len(sizes), sizes=sizes, unseen=training.unseen)
    assert partition.sizes == tuple(sorted(sizes, reverse=True))
    assert partition.unseen == training.unseen


def test_whoever_the_sizes_leave_over_is_spread_over_the_ages(biobank, rng):
    partition = skewed_non_iid(biobank, rng, learners=2, sizes=(3000, 2000))
    drawn = np.concatenate([ages_of(biobank, g) for g in partition.groups])
    assert drawn.mean() == pytest.approx(biobank.age.mean(), abs=0.05)
    assert drawn.std() == pytest.approx(biobank.age.std(), abs=0.05)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 3),
    st.integers(30, 90),
    st.integers(1, 6),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_everyone_is_exactly_once_with_a_learner_or_unseen(which, n, learners, sessions, alike, seed):
    rng = np.random.default_rng(seed)
    ages = np.full(n, 60.0) if alike else rng.uniform(5, 95, n)
    covariates = cohort_of(ages, sessions=sessions)
    unseen = hold_out_unseen(covariates, rng, 0.3).unseen
    partition = DRAWN[which](covariates, rng, learners=learners, unseen=unseen)
    everyone = [name for group in (*partition.groups, partition.unseen) for name in group]
    assert sorted(everyone) == sorted(covariates.participants)
    assert partition.sizes == tuple(sorted(partition.sizes, reverse=True))
    rows = np.concatenate([partition.rows(covariates, name) for name in (*partition.learners, "unseen")])
    assert sorted(rows) == list(range(len(covariates)))


@pytest.mark.parametrize("environment", [*DRAWN_NAMES, "site"])
def test_the_same_stream_draws_the_same_partition(environment):
    covariates = simulated_covariates(SimulatorConfig(seed=0), range(1, 301))
    config = PartitionConfig(environment=environment, learners=5)
    one, same, other = (draw_partition(config, covariates, np.random.default_rng(s)) for s in (7, 7, 8))
    assert one == same
    assert one != other
    assert one.environment == environment


def test_all_drawn_environments_share_one_unseen_set():
    covariates = simulated_covariates(SimulatorConfig(seed=0), range(1, 301))
    configs = [PartitionConfig(environment=name) for name in DRAWN_NAMES]
    drawn = [draw_partition(config, covariates, np.random.default_rng(7)) for config in configs]
    assert len({partition.unseen for partition in drawn}) == 1
    assert len({partition.groups for partition in drawn}) == 4


def test_nearest_in_turn_agrees_with_looking_at_everyone_each_time():
    ages, sizes = np.random.default_rng(0).normal(62, 7, 211), (80, 71, 60)
    targets = AgeTargets((50.0, 70.0), 7.0)
    rng = np.random.default_rng(5)
    order = rng.permutation(211)
    free, labels = dict(enumerate(ages[order])), np.full(211, -1)
    quotas = [round(NEAREST_SHARE * size) for size in sizes]
    for turn in range(max(quotas)):
        for learner, quota in enumerate(quotas):
            if turn < quota:
                target = rng.normal(targets.means[learner % 2], 7.0)
                nearest = min(free, key=lambda k: abs(free[k] - target))
                labels[order[nearest]] = learner
                del free[nearest]
    rest = rng.permutation(order[sorted(free)])
    labels[rest] = [k for k in range(3) for _ in range(sizes[k] - quotas[k])]
    found = nearest_in_turn(ages, sizes, targets, np.random.default_rng(5))
    assert found.tolist() == labels.tolist()
    assert np.bincount(found).tolist() == list(sizes)


def test_drawing_among_the_years_left_is_drawing_again_until_one_is_left():
    """The authors' loop as the slow twin: int(normal) until somebody of that year is there."""
    ages = np.repeat([50.5, 55.5, 61.5, 64.5, 70.5], [2, 2, 1, 3, 1])
    years, cells = np.unique(np.floor(ages), return_inverse=True)
    rng = np.random.default_rng(1)

    def redrawn():
        left = dict(zip(years, [2, 2, 1, 3, 1], strict=True))
        got = [[], []]
        for turn in range(5):
            for learner, (mean, size) in enumerate(((48.0, 5), (66.0, 4))):
                while turn < size:
                    year = int(rng.normal(mean, 9.0))
                    if left.get(year, 0):
                        left[year] -= 1
                        got[learner].append(year)
                        break
        return np.mean(got[0])

    weights = np.stack([log_share_of_years(years, mean, 9.0) for mean in (48.0, 66.0)])
    slow = np.array([redrawn() for _ in range(1500)])
    quick = [np.floor(ages[cells_in_turn(cells, weights, (5, 4), rng) == 0]).mean() for _ in range(1500)]
    error = np.sqrt((slow.var() + np.var(quick)) / 1500)
    assert abs(slow.mean() - np.mean(quick)) < 4 * error
    assert stats.ks_2samp(slow, quick).pvalue > 1e-3


def test_the_probability_of_a_year_is_the_normal_one_even_far_out():
    years = np.arange(30.0, 95.0)
    expected = stats.norm.cdf((years + 1 - 62) / 10) - stats.norm.cdf((years - 62) / 10)
    np.testing.assert_allclose(np.exp(log_share_of_years(years, 62.0, 10.0)), expected, rtol=1e-9)
    far = log_share_of_years(np.array([5.0, 6.0, 300.0, 301.0]), 150.0, 1.0)
    assert np.isfinite(far).all()
    assert far[1] > far[0] > -12_000
    assert far[2] == pytest.approx(stats.norm.logsf(150.0), rel=1e-9)


def test_learners_of_neighbouring_means_differ_in_age_as_the_means_do(biobank, rng):
    partition = uniform_non_iid(biobank, rng, learners=4)
    means = [ages_of(biobank, g).mean() for g in partition.groups]
    # 2,612 each for 50 and 60 years, 2,611 each for 70 and 80; among equals the last is first
    assert partition.sizes == (2612, 2612, 2611, 2611)
    assert means[1] < means[0] < means[3] < means[2]


def test_scaled_ages_make_the_same_federation_of_another_cohort(rng):
    young = cohort_of(rng.normal(27, 3, 2000))
    spread = {}
    for name, ages in (("scaled", None), ("paper", UNIFORM_AGES)):
        partition = uniform_non_iid(young, rng, learners=4, ages=ages)
        spread[name] = np.ptp([ages_of(young, g).mean() for g in partition.groups])
    assert spread["scaled"] > 1.5 * 3
    assert spread["scaled"] > spread["paper"]


def test_the_papers_targets_are_unchanged_in_the_papers_cohort():
    ages = 62.64 + 7.42 * np.array([-1.0, 1.0])
    assert SKEWED_AGES.scaled_to(ages).means == pytest.approx(SKEWED_AGES.means)
    assert SKEWED_AGES.scaled_to(ages).sd == pytest.approx(10.0)


def test_sizes_of_ratio_1_35_are_the_papers():
    assert skewed_sizes(8356, 8, 1.35) == SKEWED
    assert equal_sizes(8356, 8) == (1045,) * 4 + (1044,) * 4


@settings(deadline=None)
@given(st.integers(1, 20_000), st.integers(1, 20), st.floats(1, 3))
def test_skewed_sizes_sum_to_everyone_in_descending_order(participants, learners, ratio):
    sizes = skewed_sizes(participants, learners, ratio)
    assert sum(sizes) == participants
    assert list(sizes) == sorted(sizes, reverse=True)
    assert min(sizes) >= 0


def test_a_large_alpha_gives_every_learner_the_cohort_in_small(biobank, rng):
    spread, occupied = {}, {}
    for alpha in (0.02, 0.5, 500.0):
        partition = dirichlet_over_age(biobank, rng, alpha=alpha, learners=8, sizes=(300,) * 8)
        spread[alpha] = np.std([ages_of(biobank, g).mean() for g in partition.groups])
        bins = [np.histogram(ages_of(biobank, g), 20, (45, 80))[0] for g in partition.groups]
        occupied[alpha] = np.mean([np.exp(stats.entropy(b)) for b in bins])
    assert spread[500.0] < 0.8 < spread[0.5]
    assert occupied[500.0] > 15 > occupied[0.5] > 1.2 * occupied[0.02]


def test_on_average_a_dirichlet_learner_has_the_cohorts_ages(biobank, rng):
    means = []
    for _ in range(40):
        partition = dirichlet_over_age(biobank, rng, alpha=1.0, learners=5, sizes=(60,) * 5)
        means += [ages_of(biobank, g).mean() for g in partition.groups]
    error = np.std(means) / np.sqrt(len(means))
    assert abs(np.mean(means) - biobank.age.mean()) < 4 * error


def test_a_minute_alpha_still_fills_everyone(rng):
    partition = dirichlet_over_age(cohort_of(rng.uniform(20, 90, 200)), rng, alpha=1e-4, learners=7)
    assert sum(partition.sizes) == 200
    assert max(partition.sizes) - min(partition.sizes) <= 1


def test_sites_are_learners_of_their_own_names(rng):
    sites = ["Guy's"] * 12 + ["HH"] * 20 + ["IOP/1"] * 12
    covariates = cohort_of(np.linspace(20, 80, 44), sessions=2, sites=sites)
    partition = by_site(covariates, unseen=("p0", "p12"))
    assert partition.learners == ("HH", "IOP-1", "Guy-s")
    assert partition.sizes == (19, 12, 11)
    assert partition.unseen == ("p0", "p12")


def test_every_small_site_is_named():
    covariates = cohort_of(np.arange(25), sites=["A"] * 3 + ["B"] * 15 + ["C"] * 7)
    with pytest.raises(ConfigError, match=r"10 participants at every site, got fewer at A \(3\), C \(7\)"):
        by_site(covariates)


def test_an_unknown_site_is_explained():
    with pytest.raises(ConfigError, match="site for every participant, got 2 without"):
        by_site(cohort_of(np.arange(22), sites=["A"] * 20 + [""] * 2))


def test_a_participant_at_two_sites_is_explained():
    scans = (ScanId("p0", "1"), ScanId("p0", "2"), ScanId("p1"))
    covariates = Covariates(scans, np.array([50.0, 51, 60]), np.full(3, ""), np.array(["A", "B", "A"]))
    with pytest.raises(ConfigError, match="one site for each participant, got 1 participants"):
        by_site(covariates, minimum=1)


@pytest.mark.parametrize("generator", DRAWN)
@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"learners": 0}, "got 0 learners for 40 participants"),
        ({"learners": 41}, "got 41 learners for 40 participants"),
        ({"learners": 2, "sizes": (30, 11)}, "got sizes that sum to 41 of 40 participants"),
        ({"learners": 3, "sizes": (9, 0)}, "got 2 sizes for 3 learners; a size of 0"),
    ],
)
def test_impossible_learners_are_explained(rng, generator, asked, message):
    with pytest.raises(ConfigError, match=message):
        generator(cohort_of(rng.uniform(20, 80, 40)), rng, **asked)


@pytest.mark.parametrize("generator", [*DRAWN, by_site])
def test_unseen_strangers_are_explained(generator):
    covariates = cohort_of(np.linspace(50, 80, 40))
    arguments = (covariates,) if generator is by_site else (covariates, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="unseen participants of the cohort, got 2 of 3"):
        generator(*arguments, unseen=("p1", "nobody", "somebody"))


def test_learners_that_the_ratio_leaves_empty_are_named(rng):
    with pytest.raises(ConfigError, match=r"L8 without participants.*fewer learners"):
        skewed_non_iid(cohort_of(rng.uniform(20, 80, 20)), rng, learners=8)


def test_log_mixtures_are_those_of_a_dirichlet_distribution(rng):
    concentration = np.array([0.2, 1.0, 3.0])
    logs = log_mixtures(concentration, 6000, rng)
    mixtures = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    total = concentration.sum()
    np.testing.assert_allclose(mixtures.mean(axis=0), concentration / total, atol=0.015)
    variance = concentration * (total - concentration) / (total**2 * (total + 1))
    np.testing.assert_allclose(mixtures.var(axis=0), variance, rtol=0.08)
    for k in range(3):
        beta = stats.beta(concentration[k], total - concentration[k])
        assert stats.kstest(mixtures[:, k], beta.cdf).pvalue > 1e-3


def test_an_impossible_ratio_is_explained(rng):
    with pytest.raises(ConfigError, match=r"ratio of 1 or more, got 0\.5"):
        skewed_non_iid(cohort_of(rng.uniform(20, 80, 40)), rng, ratio=0.5)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("inf")])
def test_an_impossible_alpha_is_explained(rng, alpha):
    with pytest.raises(ConfigError, match=f"alpha above 0, got {alpha}"):
        dirichlet_over_age(cohort_of([50, 60]), rng, alpha=alpha, learners=2)


def test_configured_ages_ratio_and_sizes_are_used():
    covariates = simulated_covariates(SimulatorConfig(seed=0), range(1, 401))
    flat = PartitionConfig(environment="skewed-non-iid", learners=4, ratio=1.0)
    assert draw_partition(flat, covariates, np.random.default_rng(0)).sizes == (80, 80, 80, 80)
    sized = PartitionConfig(environment="skewed-non-iid", sizes=(9, 8, 7), unseen=0.0)
    drawn = draw_partition(sized, covariates, np.random.default_rng(0))
    assert (drawn.sizes, drawn.unseen) == ((9, 8, 7), ())
    alike = PartitionConfig(environment="dirichlet", alpha=1e6, learners=3)
    means = [
        ages_of(covariates, g).mean()
        for g in draw_partition(alike, covariates, np.random.default_rng(0)).groups
    ]
    assert np.ptp(means) < 3
