import keras
import numpy as np
import pytest
from hypothesis import given
from oracles import Case, average_pool, cases, many

from keras_cae.layers import AveragePooling, AverageUnpooling


def pool(case, x):
    return case.run(AveragePooling(**case.settings), x)


def unpool(case, x, like=None):
    return case.run(AverageUnpooling(**case.settings), x, like=like)


def average_unpool(case, pooled):
    """Each value in equal shares on the cells that its window covers."""
    y = np.zeros((len(pooled), *case.grid, pooled.shape[-1]))
    for index, _, cells in case.windows():
        share = pooled[(slice(None), *index)]
        for _ in case.grid:
            share = share[:, None]
        y[(slice(None), *cells)] += share / np.prod([c.stop - c.start for c in cells])
    return y


@many(150)
@given(cases())
def test_pooling_takes_the_mean_of_the_cells_on_the_grid(case):
    x = case.numbers()
    np.testing.assert_allclose(pool(case, x), average_pool(case, x), atol=1e-5)


@many(150)
@given(cases())
def test_unpooling_spreads_each_value_over_its_window(case):
    y = case.numbers(case.pooled_grid)
    expected = average_unpool(case, y)
    np.testing.assert_allclose(unpool(case, y, case.grid), expected, atol=1e-5)


@many(150)
@given(cases())
def test_unpooling_is_the_adjoint_of_pooling(case):
    x, y = case.numbers(), case.numbers(case.pooled_grid)
    spread = unpool(case, y, like=x)
    assert spread.shape == x.shape
    np.testing.assert_allclose(
        np.vdot(pool(case, x), y), np.vdot(x, spread), rtol=1e-4, atol=1e-3
    )


@many(60)
@given(cases())
def test_without_like_the_grid_is_that_of_whole_strides(case):
    case = case.on(case.natural_grid)
    y = case.numbers(case.pooled_grid)
    np.testing.assert_allclose(unpool(case, y), average_unpool(case, y), atol=1e-5)


@many(30)
@given(cases())
def test_channels_are_independent(case):
    x, y = case.numbers(channels=3), case.numbers(case.pooled_grid, channels=3)
    pooled, spread = pool(case, x), unpool(case, y, like=x)
    x[..., 1] = y[..., 1] = np.nan
    others = [0, 2]
    np.testing.assert_array_equal(pooled[..., others], pool(case, x)[..., others])
    again = unpool(case, y, like=case.grid)
    np.testing.assert_array_equal(spread[..., others], again[..., others])


# On PyTorch, "same" padding counts in the means of Keras.
PADDINGS = ("valid",) if keras.backend.backend() == "torch" else ("same", "valid")


@many(40)
@given(cases(paddings=PADDINGS))
def test_pooling_equals_that_of_keras(case):
    theirs = getattr(keras.layers, f"AveragePooling{len(case.grid)}D")
    x = case.numbers()
    np.testing.assert_allclose(
        pool(case, x), case.run(theirs(**case.settings), x), atol=1e-5
    )


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("grid", [(7,), (7, 10), (3, 7, 4)])
def test_pair_of_one_setting_serves_every_rank_and_format(grid, data_format):
    case = Case(grid, (3,) * len(grid), (2,) * len(grid), "same", data_format)
    x, y = case.numbers(), case.numbers(case.pooled_grid)
    layer = AveragePooling(3, 2, data_format=data_format)
    np.testing.assert_allclose(case.run(layer, x), average_pool(case, x), atol=1e-5)
    layer = AverageUnpooling(3, 2, data_format=data_format)
    np.testing.assert_allclose(
        case.run(layer, y, like=x), average_unpool(case, y), atol=1e-5
    )


def test_unpooling_keeps_the_sum():
    case = Case((7, 10), (3, 2), (2, 3))
    y = case.numbers(case.pooled_grid)
    total = unpool(case, y, like=case.grid).sum((1, 2))
    np.testing.assert_allclose(total, y.sum((1, 2)), atol=1e-4)


def test_a_constant_map_stays_constant():
    for padding in ("same", "valid"):
        case = Case((7, 10), (3, 4), (2, 3), padding)
        x = np.full((1, 7, 10, 1), 3.0, "float32")
        np.testing.assert_allclose(pool(case, x), 3.0, rtol=1e-6)


def test_odd_values_stay_in_their_windows():
    case = Case((6,), (2,), (2,))
    x = case.numbers(channels=1)
    clean = pool(case, x)
    x[:, 4:] = np.nan
    pooled = pool(case, x)
    np.testing.assert_allclose(pooled[:, :2], clean[:, :2])
    assert np.isnan(pooled[:, 2:]).all()


def test_means_are_as_exact_as_float64():
    case = Case((4,), (3,), (2,))
    x = case.numbers() + np.float64(0.1)
    y = case.run(AveragePooling(**case.settings, dtype="float64"), x)
    if y.dtype != "float64":
        pytest.skip("JAX has no float64 unless it is told to")
    np.testing.assert_allclose(y, average_pool(case, x), rtol=1e-14)


def test_large_means_do_not_overflow_in_half_precision():
    y = AveragePooling(4, dtype="float16")(np.full((1, 4, 4, 1), 40000.0))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(y), 40000)


def test_integer_maps_give_the_compute_dtype():
    case = Case((5,), (2,), (2,))
    x = case.numbers().astype("int32")
    assert pool(case, x).dtype == "float32"
    y = case.numbers(case.pooled_grid).astype("int32")
    spread = unpool(case, y, like=case.grid)
    assert spread.dtype == "float32"
    np.testing.assert_allclose(spread, average_unpool(case, y), atol=1e-6)


def test_unknown_sizes_compute_what_known_sizes_do():
    image = keras.Input((None, None, 2))
    pooled = AveragePooling(3, 2)(image)
    y = AverageUnpooling(3, 2)(pooled, like=image)
    assert y.shape == (None, None, None, 2)
    model = keras.Model(image, [pooled, y])
    for grid in ((1, 1), (7, 10), (2, 13)):
        case = Case(grid, (3, 3), (2, 2))
        x = case.numbers()
        means, spread = model.predict(x, verbose=0)
        np.testing.assert_allclose(means, average_pool(case, x), atol=1e-5)
        np.testing.assert_allclose(spread, average_unpool(case, means), atol=1e-5)
