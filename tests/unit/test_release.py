"""Answers of a released model: the same for the same scan, rounded, within a range."""

from dataclasses import replace

import numpy as np
import pytest

from privoxel.attacks import ATTACKS
from privoxel.defence_config import ReleaseConfig
from privoxel.recipes.judging import released_facts, seen_through
from privoxel.signals.release import Release, content_of, noise_of, released
from privoxel.signals.table import LazyArray, SignalTable
from tests.conftest import make_cohort

COHORT = make_cohort(30)
AGES = COHORT.covariates.age


def make_table(models=2, seed=0):
    rng = np.random.default_rng(seed)
    shape = (models, 2, len(COHORT))
    values = {
        "prediction": LazyArray((AGES + rng.normal(0, 3, shape)).astype(np.float32)),
        "augmented:shift": LazyArray((AGES[:, None] + rng.normal(0, 3, (*shape, 6))).astype(np.float32)),
        "gradient-norms": LazyArray(rng.uniform(1, 2, (*shape, 4)).astype(np.float32)),
    }
    membership = np.tile(np.arange(len(COHORT)) % 2, (models, 1)).astype(np.int8)
    return SignalTable(COHORT.covariates, ("a", "b")[:models], ("one", "two"), membership, values)


def test_answers_are_multiples_within_the_range():
    settings = ReleaseConfig(round_years=2.5, clip_years=(50.0, 75.0))
    shown = released([48.0, 61.1, 61.3, 90.0], np.zeros(4), settings)
    assert shown.tolist() == [50.0, 60.0, 62.5, 75.0]
    assert released([61.25], [0.5], ReleaseConfig(noise_years=2.0)).tolist() == [62.25]


def test_noise_is_standard_normal_and_of_the_volume_alone():
    drawn = np.array([noise_of(bytes([k % 256, k // 256]), b"secret") for k in range(4000)])
    assert abs(drawn.mean()) < 0.06
    assert drawn.std() == pytest.approx(1, abs=0.05)
    assert abs(np.mean(drawn < 1.0) - 0.8413) < 0.02
    volume = COHORT.volume(0)
    again = np.asfortranarray(volume.astype(np.float64)).astype(np.float32)
    assert content_of(volume) == content_of(again)
    other = volume.copy()
    other[3, 4, 5] += 1e-3
    assert content_of(volume) != content_of(other)
    assert noise_of(content_of(volume), b"secret") != noise_of(content_of(volume), b"other")


def test_asking_again_gives_the_same_answer_whatever_else_is_asked():
    release = Release.over(COHORT, ReleaseConfig(noise_years=2.0), seed=1)
    table = make_table()
    whole = release.of(table).read("prediction")
    part = release.of(table.select([7, 2, 19])).read("prediction")
    np.testing.assert_array_equal(part, whole[[7, 2, 19]])
    noise = whole - table.read("prediction")
    assert 1.2 < noise.std() < 2.8
    np.testing.assert_allclose(  # another snapshot of the model answers with the same noise
        release.of(table).read("prediction", snapshot=0) - table.read("prediction", snapshot=0),
        noise,
        atol=1e-4,
    )


def test_models_and_copies_of_scans_have_noise_of_their_own():
    release = Release.over(COHORT, ReleaseConfig(noise_years=2.0), seed=1)
    table = make_table()
    shown = release.of(table)
    noises = [shown.read("prediction", model=m) - table.read("prediction", model=m) for m in (0, 1)]
    assert abs(np.corrcoef(noises)[0, 1]) < 0.6
    copies = shown.read("augmented:shift") - table.read("augmented:shift")
    assert np.unique(copies.round(3), axis=1).shape == (30, 6)


def test_only_black_box_attacks_see_answers():
    release = Release.over(COHORT, ReleaseConfig(round_years=5.0), seed=1)
    table, seen = make_table(), seen_through(release)
    black, white = ATTACKS["abs-error"], ATTACKS["gradient-magnitude"]
    assert (seen(black, table).read("prediction") % 5 == 0).all()
    assert seen(white, table) is table
    np.testing.assert_array_equal(seen(black, table).read("gradient-norms"), table.read("gradient-norms"))
    assert seen(black, table) is seen(black, table)
    assert seen_through(None)(black, table) is table


def test_noise_on_answers_weakens_a_black_box_attack_and_its_price_is_reported():
    table = make_table(models=1)
    exact = np.where(table.is_member(), 0.2, 4.0) * np.where(np.arange(30) % 4 < 2, 1, -1)
    values = {"prediction": LazyArray(np.tile((AGES + exact).astype(np.float32), (1, 2, 1)))}
    table = replace(table, values=values)
    release = Release.over(COHORT, ReleaseConfig(noise_years=8.0), seed=1)

    def auc(seen):
        error, members = np.abs(seen.error()), seen.is_member()
        return np.mean(error[members][:, None] < error[~members])

    assert auc(table) == 1.0
    assert auc(release.of(table)) < 0.8
    facts = released_facts(table, release)
    assert float(facts["released_members_mae"]) > 3.0
    assert facts["release"] == "{'noise_years': 8.0}"
    assert released_facts(table, None) == {}
