import numpy as np
import pytest

from privoxel.attacks.standardise import CLIP, fit_standardiser


def slow_standardised(leaked, values):
    out = np.zeros(values.shape)
    sds = {index: float(np.std([row[index] for row in leaked])) for index in np.ndindex(leaked.shape[1:])}
    largest = max(sds.values())
    for index, sd in sds.items():
        if sd == 0 or sd < 1e-6 * largest:
            continue
        mean = sum(float(row[index]) for row in leaked) / len(leaked)
        for scan, row in enumerate(values):
            out[scan][index] = min(max((float(row[index]) - mean) / sd, -10.0), 10.0)
    return out


def heavy_tailed(seed=0):
    rng = np.random.default_rng(seed)
    leaked, values = rng.standard_t(2, (11, 7, 3)), 20 * rng.standard_t(1, (5, 7, 3))
    leaked[:, 2, 1], values[:, 2, 1] = rng.normal(0, 1e-9, 11), rng.normal(0, 1e-9, 5)
    leaked[:, 6, 0] = 4.25
    return leaked, values


def test_maps_agree_with_a_loop_over_features():
    leaked, values = heavy_tailed()
    expected = slow_standardised(leaked, values)
    assert (np.abs(expected) == CLIP).any()
    np.testing.assert_allclose(fit_standardiser(leaked).maps(values), expected, rtol=1e-6, atol=1e-7)


def test_rounding_noise_and_constants_are_dropped_from_vectors_and_zero_in_maps():
    leaked, values = heavy_tailed()
    scaling = fit_standardiser(leaked)
    assert scaling.dropped == 2
    assert scaling.vectors(values).shape == (5, 19)
    assert not scaling.maps(values)[:, [2, 6], [1, 0]].any()
    assert scaling.notes("gradient-norms") == ("gradient-norms: 2 structural zeros dropped",)


def test_leaked_features_have_mean_zero_and_unit_variance():
    leaked = np.random.default_rng(1).normal(60, 7, (41, 5))
    z = fit_standardiser(leaked).vectors(leaked).astype(np.float64)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(axis=0), 1, atol=1e-6)


def test_the_scaling_does_not_depend_on_the_scans_it_is_applied_to():
    leaked, values = heavy_tailed()
    scaling = fit_standardiser(leaked)
    np.testing.assert_array_equal(scaling.maps(values)[3:], scaling.maps(values[3:]))


def test_a_signal_without_variation_becomes_one_column_of_zeros():
    scaling = fit_standardiser(np.full((7, 3), 2.0))
    np.testing.assert_array_equal(scaling.vectors(np.arange(15.0).reshape(5, 3)), np.zeros((5, 1)))
    assert scaling.dropped == 3


def test_nothing_dropped_is_not_mentioned():
    assert fit_standardiser(np.array([[1.0, 2.0], [2.0, 5.0]])).notes("prediction") == ()


def test_float32_sums_do_not_lose_the_mean_of_large_values():
    leaked = np.full((20_001, 1), 16_777_216.0, dtype=np.float32)
    leaked[::2] += 4
    assert fit_standardiser(leaked).mean[0] == pytest.approx(leaked.astype(np.float64).mean(), rel=1e-12)


@pytest.mark.parametrize(
    ("leaked", "message"), [(np.empty((0, 3)), "at least one scan"), (np.array([[1.0], [np.nan]]), "finite")]
)
def test_unusable_scans_are_refused(leaked, message):
    with pytest.raises(ValueError, match=message):
        fit_standardiser(leaked)
