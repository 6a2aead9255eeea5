"""What a site may say of its images: who is at two sites, and who prepared them otherwise."""

from dataclasses import replace

import numpy as np
import pytest

from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort
from privoxel.training.federated.fingerprints import (
    FARTHEST,
    keyed_hashes,
    mean_quantiles,
    prepared_otherwise,
    secret_mark,
    shared_images,
)
from tests.conftest import make_cohort

COHORT = make_cohort(12)


def test_a_shared_image_is_found_under_one_secret_only():
    here = keyed_hashes(COHORT, np.arange(0, 6), b"together")
    there = keyed_hashes(COHORT, np.arange(5, 9), b"together")
    assert shared_images({"a": here, "b": there, "c": []}) == {("a", "b"): 1}
    assert shared_images({"a": here, "b": keyed_hashes(COHORT, np.arange(5, 9), b"alone")}) == {}


def test_a_mark_tells_secrets_apart_and_is_no_image_s_hash():
    assert secret_mark(b"together") == secret_mark(b"together") != secret_mark(b"alone")
    assert secret_mark(b"together") not in keyed_hashes(COHORT, np.arange(6), b"together")


def test_hashes_tell_neither_the_order_of_scans_nor_their_content():
    hashes = keyed_hashes(COHORT, np.arange(8), b"secret")
    assert hashes == sorted(hashes)
    assert hashes == keyed_hashes(COHORT, np.arange(8)[::-1], b"secret")


def test_quantiles_are_means_over_scans():
    by_hand = np.mean([np.quantile(COHORT.volume(k), (0.05, 0.25, 0.5, 0.75, 0.95)) for k in (2, 7)], 0)
    np.testing.assert_allclose(mean_quantiles(COHORT, np.array([2, 7])), by_hand)


def test_sites_with_other_scanners_pass_and_a_site_that_kept_the_skull_is_named():
    brains = simulate_cohort(SimulatorConfig(seed=3, resolution_mm=8.0), 36)
    sites = {
        name: np.flatnonzero(brains.covariates.site == name) for name in np.unique(brains.covariates.site)
    }
    assert len(sites) == 3
    quantiles = {str(name): mean_quantiles(brains, rows) for name, rows in sites.items()}
    assert prepared_otherwise(quantiles) == {}
    unstripped = replace(brains, source=WithSkull(brains.source))
    quantiles["late"] = mean_quantiles(unstripped, np.arange(12))
    far = prepared_otherwise(quantiles)
    assert set(far) == {"late"}
    assert far["late"] > FARTHEST


def test_of_three_sites_only_the_odd_one_is_named_however_far_it_is():
    assert set(prepared_otherwise({"a": [0.0], "b": [0.1], "c": [9.0]})) == {"c"}


def test_sites_without_finite_quantiles_are_left_out():
    assert prepared_otherwise({"a": [0.0], "b": [float("nan")]}) == {}


def test_of_two_sites_both_are_named():
    assert set(prepared_otherwise({"a": [0.0, 1.0], "b": [0.0, 2.0]})) == {"a", "b"}


@pytest.mark.parametrize("known", [{}, {"a": [0.0, 1.0]}])
def test_a_single_site_has_nothing_to_differ_from(known):
    assert prepared_otherwise(known) == {}


class WithSkull:
    """Volumes whose background is a bright scalp, z-scored again as every site does."""

    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source)

    def volume(self, row):
        values = self.source.volume(row).copy()
        background = values <= np.quantile(values, 0.3)
        values[background] = np.linspace(values.mean(), values.max(), background.sum())
        return ((values - values.mean()) / values.std()).astype(np.float32)
