import numpy as np
import pytest
from scipy import sparse

from privoxel.cohort import deformation
from privoxel.cohort.anatomy import FIELD_LATTICE


def test_sparse_splines_agree_with_the_textbook_basis():
    positions = np.array([0.0, 0.3, 1.0, 2.75, 4.0], dtype=np.float32)
    weights = deformation.bspline_weights(positions, 7).toarray()
    for row, x in enumerate(positions.astype(float)):
        for j in range(7):
            d = abs(x - (j - 1))
            expected = 2 / 3 - d**2 + d**3 / 2 if d < 1 else (2 - d) ** 3 / 6 if d < 2 else 0.0
            assert weights[row, j] == pytest.approx(expected, abs=1e-6)


def test_refined_coefficients_describe_the_same_curve(rng):
    coefficients = rng.standard_normal(7)
    x = np.linspace(0, 4, 21, dtype=np.float32)
    coarse = deformation.bspline_weights(x, 7) @ coefficients
    finer = deformation.refinement(7, 11) @ coefficients
    np.testing.assert_allclose(deformation.bspline_weights(2 * x, 11) @ finer, coarse, atol=1e-5)


def test_random_fields_have_the_spread_asked_for(rng):
    spreads = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.5]], dtype=np.float32)
    fields = np.stack([deformation.random_fields(rng, spreads) for _ in range(6)])
    assert fields.shape == (6, 2, *FIELD_LATTICE.shape)
    assert fields[:, 0].std() == pytest.approx(2.0, rel=0.15)
    assert fields[:, 1].std() == pytest.approx(0.5, rel=0.05)


def test_applying_matrices_along_axes_agrees_with_einsum(rng):
    shapes = [(4, 7), (5, 8), (6, 9)]
    dense = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    array = rng.standard_normal((2, 7, 8, 9)).astype(np.float32)
    expected = np.einsum("ai,bj,ck,nijk->nabc", *dense, array, dtype=np.float64)
    got = deformation.along_axes(tuple(sparse.csr_array(d) for d in dense), array)
    np.testing.assert_allclose(got, expected, atol=1e-4)
