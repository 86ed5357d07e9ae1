import numpy as np
import pytest

from keras_cae.callbacks.units import active, correlations, mean_correlation, variances


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape)


def test_variance_is_over_the_samples_and_averaged_over_the_cells():
    latents = normal(20, 4, 5, 3)
    expected = np.var(latents, axis=0).mean(axis=(0, 1))
    np.testing.assert_allclose(variances(latents), expected)
    np.testing.assert_allclose(variances(latents[:, 0, 0]), latents[:, 0, 0].var(0))


def test_pattern_that_is_the_same_for_every_sample_is_no_activity():
    latents = np.tile(normal(1, 4, 4, 2), (6, 1, 1, 1))
    latents[..., 1] += np.arange(6)[:, None, None]
    assert list(active(latents)) == [False, True]


def test_units_are_active_above_a_variance_of_a_hundredth():
    signs = np.array([[1.0], [-1.0]])
    assert list(active(signs * [0.0, 0.099, 0.101, 10.0])) == [False, False, True, True]


def test_correlations_are_pearsons():
    latents = normal(50, 5) @ normal(5, 5)
    expected = np.corrcoef(latents, rowvar=False)
    np.testing.assert_allclose(correlations(latents), expected)


def test_correlations_of_maps_are_taken_cell_by_cell():
    shared, offsets = normal(30, 4, 4, 1), 100 * normal(1, 4, 4, 2)
    matrix = correlations(shared * [1.0, -2.0] + offsets)
    np.testing.assert_allclose(matrix, [[1, -1], [-1, 1]])


@pytest.mark.parametrize("value", [0.0, 7.0, 1e20])
def test_constant_unit_has_no_correlation_and_leaves_the_others_alone(value):
    latents = normal(30, 3)
    alone = correlations(latents[:, 1:])
    latents[:, 0] = value
    matrix = correlations(latents)
    assert np.isnan(matrix[0]).all()
    assert np.isnan(matrix[:, 0]).all()
    np.testing.assert_allclose(matrix[1:, 1:], alone)
    assert mean_correlation(matrix) == abs(alone[0, 1])


def test_mean_correlation_needs_two_units_that_vary():
    assert np.isnan(mean_correlation(correlations(normal(30, 1))))
    assert np.isnan(mean_correlation(correlations(np.zeros((30, 4)))))
    assert np.isnan(mean_correlation(correlations(normal(1, 4))))


@pytest.mark.filterwarnings("error")
def test_what_is_not_finite_makes_no_warning():
    latents = normal(5, 3)
    latents[2, 1] = np.nan
    latents[3, 2] = np.inf
    assert list(active(latents)) == [True, False, False]
    assert np.isnan(mean_correlation(correlations(latents)))
