import dataclasses
import functools

import keras
import numpy as np
import pytest
from hypothesis import given
from oracles import Case, cases, many

from keras_cae.layers import AveragePooling
from keras_cae.layers.haar import HaarPooling, HaarUnpooling

LAYERS = (HaarPooling, HaarUnpooling)


def pool(case, x):
    return case.run(HaarPooling(**case.settings), x)


def unpool(case, y, like=None):
    return case.run(HaarUnpooling(**case.settings), y, like=like)


def by_two(case):
    """The case with windows of 2 side by side, on a grid that holds one."""
    two = (2,) * len(case.grid)
    least = 2 if case.padding == "valid" else 1
    grid = tuple(max(n, least) for n in case.grid)
    return dataclasses.replace(case, grid=grid, pool_size=two, strides=two)


def halves(**settings):
    return cases(**settings).map(by_two)


def haar(case, x):
    """Of each window, zeros off the grid, the bands: Kronecker products of filters."""
    low, high = np.array([1, 1]) / 2**0.5, np.array([1, -1]) / 2**0.5
    filters = [
        functools.reduce(np.multiply.outer, [(low, high)[digit] for digit in digits])
        for digits in np.ndindex(*case.pool_size)
    ]
    bordered = np.pad(x, ((0, 0), *((0, 1) for _ in case.grid), (0, 0)))
    bands = []
    for weights in filters:
        band = np.zeros((len(x), *case.pooled_grid, x.shape[-1]))
        for index in np.ndindex(*case.pooled_grid):
            window = tuple(slice(2 * i, 2 * i + 2) for i in index)
            view = bordered[(slice(None), *window)]
            band[(slice(None), *index)] = np.tensordot(
                view, weights, (range(1, 1 + len(index)), range(len(index)))
            )
        bands.append(band)
    return np.concatenate(bands, -1)


@many(100)
@given(halves())
def test_pooling_splits_windows_into_bands(case):
    x = case.numbers()
    np.testing.assert_allclose(pool(case, x), haar(case, x), atol=1e-5)


@many(100)
@given(halves(paddings=("same",)))
def test_unpooling_undoes_pooling(case):
    x = case.numbers()
    np.testing.assert_allclose(unpool(case, pool(case, x), like=x), x, atol=1e-5)


@many(100)
@given(halves())
def test_pooling_undoes_unpooling(case):
    y = case.numbers(case.pooled_grid, 2 * 2 ** len(case.grid))
    x = unpool(case, y)
    assert x.shape == (2, *case.natural_grid, 2)
    pooled = pool(case.on(case.natural_grid), x)
    np.testing.assert_allclose(pooled, y, atol=1e-5)


@many(100)
@given(halves(paddings=("same",)))
def test_pooling_keeps_the_energy(case):
    x = case.numbers()
    energy = np.square(pool(case, x)).sum()
    np.testing.assert_allclose(energy, np.square(x).sum(), rtol=1e-5)


@many(100)
@given(halves())
def test_unpooling_is_the_adjoint_of_pooling(case):
    x = case.numbers()
    y = case.numbers(case.pooled_grid, 2 * 2 ** len(case.grid))
    restored = unpool(case, y, like=x)
    assert restored.shape == x.shape
    np.testing.assert_allclose(
        np.vdot(pool(case, x), y), np.vdot(x, restored), rtol=1e-4, atol=1e-3
    )


@many(100)
@given(halves(paddings=("valid",)))
def test_valid_loses_only_the_last_cell_of_an_odd_axis(case):
    x = case.numbers()
    kept = np.zeros_like(x)
    whole = (slice(None), *map(slice, case.natural_grid))
    kept[whole] = x[whole]
    restored = unpool(case, pool(case, x), like=x)
    np.testing.assert_allclose(restored, kept, atol=1e-5)


@pytest.mark.parametrize("grid", [(8,), (8, 6), (4, 2, 6)])
def test_first_channels_are_the_scaled_means_of_the_windows(grid):
    rank = len(grid)
    x = np.random.default_rng(1).normal(size=(2, *grid, 3)).astype("float32")
    low = keras.ops.convert_to_numpy(HaarPooling()(x))[..., :3]
    means = keras.ops.convert_to_numpy(AveragePooling(2)(x))
    np.testing.assert_allclose(low, means * 2 ** (rank / 2), atol=1e-5)


def test_bands_of_an_image_are_ordered_low_width_height_diagonal():
    image = np.zeros((1, 2, 2, 1), "float32")
    along_width, along_height, checkers = (np.array(image) for _ in range(3))
    along_width[0, :, 0], along_width[0, :, 1] = 1, -1
    along_height[0, 0], along_height[0, 1] = 1, -1
    checkers[0, :, :, 0] = [[1, -1], [-1, 1]]
    for band, x in enumerate((image + 1, along_width, along_height, checkers)):
        expected = np.zeros(4)
        expected[band] = 2
        np.testing.assert_allclose(np.squeeze(HaarPooling()(x)), expected)


@many(30)
@given(halves())
def test_channels_are_independent(case):
    x = case.numbers(channels=3)
    spoiled = np.array(x)
    spoiled[..., 1] = np.nan
    sound = np.arange(3 * 2 ** len(case.grid)) % 3 != 1
    clean, pooled = pool(case, x), pool(case, spoiled)
    np.testing.assert_array_equal(pooled[..., sound], clean[..., sound])
    restored = unpool(case, pooled, like=x)[..., ::2]
    np.testing.assert_array_equal(restored, unpool(case, clean, like=x)[..., ::2])


def test_channels_first_has_the_same_bands():
    x = Case((7, 10), (2, 2), (2, 2)).numbers(channels=3)
    last = HaarPooling()(x)
    first = HaarPooling(data_format="channels_first")(np.moveaxis(x, -1, 1))
    np.testing.assert_array_equal(keras.ops.moveaxis(first, 1, -1), last)


def test_unknown_sizes_compute_what_known_sizes_do():
    volume = keras.Input((None, None, None, 2))
    pooled = HaarPooling()(volume)
    assert pooled.shape == (None, None, None, None, 16)
    restored = HaarUnpooling()(pooled, like=volume)
    model = keras.Model(volume, [pooled, restored])
    for grid in ((1, 1, 1), (3, 7, 4)):
        case = by_two(Case(grid, grid, grid))
        x = case.numbers()
        pooled, restored = model.predict(x, verbose=0)
        np.testing.assert_allclose(pooled, haar(case, x), atol=1e-5)
        np.testing.assert_allclose(restored, x, atol=1e-5)


def test_half_precision_overflows_only_where_a_band_does():
    x = np.full((1, 4, 4, 1), 3e4)
    pooled = HaarPooling(dtype="float16")(x)
    restored = HaarUnpooling(dtype="float16")(pooled)
    assert keras.backend.standardize_dtype(pooled.dtype) == "float16"
    pooled = keras.ops.convert_to_numpy(pooled)
    np.testing.assert_allclose(pooled[..., 0], 6e4, rtol=1e-3)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(restored), x, rtol=1e-3)


@pytest.mark.parametrize("layer", LAYERS)
def test_integer_maps_give_the_compute_dtype(layer):
    y = layer()(np.arange(10, dtype="int32").reshape(1, 5, 2))
    assert keras.backend.standardize_dtype(y.dtype) == "float32"


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("value", [1, 3, (2, 3), (1,)])
def test_refuses_a_window_that_is_not_two(layer, value):
    with pytest.raises(ValueError, match="`pool_size` must be 2, the window of"):
        layer(value)
    assert layer((2, 2)).get_config()["pool_size"] == (2, 2)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("value", [0, True, 2.0, None])
def test_refuses_a_window_that_is_none(layer, value):
    with pytest.raises(ValueError, match="`pool_size` must be a positive int"):
        layer(value)


@pytest.mark.parametrize("layer", LAYERS)
def test_refuses_strides_other_than_whole_windows(layer):
    with pytest.raises(ValueError, match="`strides` must be None or equal to"):
        layer(2, strides=1)


def test_unpooling_refuses_channels_that_make_no_whole_bands():
    with pytest.raises(ValueError, match="multiple of the cells of a window"):
        HaarUnpooling()(np.zeros((1, 4, 4, 6)))


def test_unpooling_refuses_a_like_that_pools_to_another_grid():
    with pytest.raises(ValueError, match="`like` must have a grid that pools to"):
        HaarUnpooling()(np.zeros((1, 4, 3, 4)), like=(9, 6))
