import dataclasses
import math

import keras
import numpy as np
import pytest
from hypothesis import given
from oracles import Case, cases, many

from keras_cae.layers.rearrange import DepthToSpace, SpaceToDepth

LAYERS = (SpaceToDepth, DepthToSpace)


def pool(case, x):
    return case.run(SpaceToDepth(**case.settings), x)


def unpool(case, y, like=None):
    return case.run(DepthToSpace(**case.settings), y, like=like)


def side_by_side(case):
    """The case with strides of whole windows, on a grid that holds one."""
    sizes = zip(case.grid, case.pool_size, strict=True)
    grid = tuple(max(n, k if case.padding == "valid" else 1) for n, k in sizes)
    return dataclasses.replace(case, grid=grid, strides=case.pool_size)


def tiles(**settings):
    return cases(**settings).map(side_by_side)


def space_to_depth(case, x):
    """Window after window, its cells one after the other; zeros off the grid."""
    channels = x.shape[-1]
    cells = math.prod(case.pool_size)
    y = np.zeros((len(x), *case.pooled_grid, cells * channels), x.dtype)
    for index, first, _ in case.windows():
        for number, place in enumerate(np.ndindex(*case.pool_size)):
            cell = tuple(np.add(first, place))
            block = slice(number * channels, (number + 1) * channels)
            if all(0 <= at < n for at, n in zip(cell, case.grid, strict=True)):
                y[(slice(None), *index, block)] = x[(slice(None), *cell)]
    return y


@many(150)
@given(tiles())
def test_pooling_puts_the_cells_of_a_window_one_after_the_other(case):
    x = case.numbers()
    np.testing.assert_array_equal(pool(case, x), space_to_depth(case, x))


@many(150)
@given(tiles(paddings=("same",)))
def test_unpooling_undoes_pooling(case):
    x = case.numbers()
    np.testing.assert_array_equal(unpool(case, pool(case, x), like=x), x)


@many(100)
@given(tiles())
def test_pooling_undoes_unpooling(case):
    channels = 2 * math.prod(case.pool_size)
    y = case.numbers(case.pooled_grid, channels)
    x = unpool(case, y)
    assert x.shape == (2, *case.natural_grid, 2)
    np.testing.assert_array_equal(pool(case.on(case.natural_grid), x), y)


@many(100)
@given(tiles(paddings=("valid",)))
def test_valid_loses_only_what_lies_behind_the_last_window(case):
    x = case.numbers()
    kept = np.zeros_like(x)
    whole = (slice(None), *map(slice, case.natural_grid))
    kept[whole] = x[whole]
    np.testing.assert_array_equal(unpool(case, pool(case, x), like=x), kept)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_channels_are_ordered_as_those_of_tensorflow(size):
    tf = pytest.importorskip("tensorflow")
    case = Case((size, 2 * size), (size, size), (size, size))
    x = case.numbers(channels=3)
    if size > 1:  # TensorFlow knows no windows of 1
        expected = tf.nn.space_to_depth(x, size).numpy()
        np.testing.assert_array_equal(pool(case, x), expected)
        np.testing.assert_array_equal(tf.nn.depth_to_space(expected, size), x)
    np.testing.assert_array_equal(unpool(case, pool(case, x)), x)


def test_channels_first_has_the_same_order():
    x = Case((4, 6), (2, 3), (2, 3)).numbers(channels=3)
    last = SpaceToDepth((2, 3))(x)
    first = SpaceToDepth((2, 3), data_format="channels_first")(np.moveaxis(x, -1, 1))
    np.testing.assert_array_equal(keras.ops.moveaxis(first, 1, -1), last)


def test_windows_of_one_setting_serve_every_rank():
    for grid in ((7,), (7, 10), (3, 7, 4)):
        cells = 2 ** len(grid)
        x = np.random.default_rng(0).normal(size=(1, *grid, 2)).astype("float32")
        pooled = SpaceToDepth()(x)
        assert pooled.shape == (1, *((n + 1) // 2 for n in grid), 2 * cells)
        np.testing.assert_array_equal(DepthToSpace()(pooled, like=x), x)


def test_unknown_sizes_compute_what_known_sizes_do():
    image = keras.Input((None, None, 2))
    pooled = SpaceToDepth((2, 3))(image)
    assert pooled.shape == (None, None, None, 12)
    restored = DepthToSpace((2, 3))(pooled, like=image)
    assert restored.shape == (None, None, None, 2)
    whole = SpaceToDepth((2, 3), padding="valid")(image)
    model = keras.Model(image, [pooled, restored, whole])
    for grid in ((2, 3), (7, 10), (3, 13)):
        case = Case(grid, (2, 3), (2, 3))
        x = case.numbers()
        pooled, restored, whole = model.predict(x, verbose=0)
        np.testing.assert_array_equal(pooled, space_to_depth(case, x))
        np.testing.assert_array_equal(restored, x)
        valid = dataclasses.replace(case, padding="valid")
        np.testing.assert_array_equal(whole, space_to_depth(valid, x))


def test_pooling_takes_an_unknown_number_of_channels():
    pooled = SpaceToDepth(2)(keras.Input((7, 10, None)))
    assert pooled.shape == (None, 4, 5, None)


@pytest.mark.parametrize("layer", LAYERS)
def test_integer_maps_give_the_compute_dtype(layer):
    y = layer(2)(np.arange(10, dtype="int32").reshape(1, 5, 2))
    assert keras.backend.standardize_dtype(y.dtype) == "float32"


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("pool_size", "strides"), [(2, 1), (2, 3), ((2, 3), (3, 2))])
def test_refuses_strides_other_than_whole_windows(layer, pool_size, strides):
    with pytest.raises(ValueError, match="`strides` must be None or equal to"):
        layer(pool_size, strides)
    assert layer(pool_size, pool_size).get_config()["strides"] == pool_size


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("value", [0, -2, True, 2.0])
def test_refuses_a_window_that_is_none(layer, value):
    with pytest.raises(ValueError, match="`pool_size` must be a positive int"):
        layer(value)


def test_refuses_a_valid_window_larger_than_the_grid():
    with pytest.raises(ValueError, match="must not be larger than the grid"):
        SpaceToDepth(4, padding="valid")(np.zeros((1, 3, 1)))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_unpooling_refuses_channels_that_make_no_whole_windows(data_format):
    rule = "channels of the input must be a multiple of the cells"
    with pytest.raises(ValueError, match=rule):
        DepthToSpace(2, data_format=data_format)(np.zeros((1, 6, 5, 6)))
    with pytest.raises(ValueError, match="known number of channels"):
        DepthToSpace(2, data_format=data_format)(keras.Input((None, None, None)))


def test_unpooling_refuses_a_like_that_pools_to_another_grid():
    with pytest.raises(ValueError, match="`like` must have a grid that pools to"):
        DepthToSpace(2)(np.zeros((1, 4, 3, 4)), like=(9, 6))
