import math

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import Case, cases, in_format, many, max_pool

from keras_cae.layers import LpPooling, SoftPooling
from keras_cae.testing import backends

ORDERS = st.sampled_from([0.5, 1, 1.5, 2, 3, 7.25])


def over_windows(case, x, function):
    """A function of the cells of each window, given as (batch, cells, channels)."""
    y = np.empty((len(x), *case.pooled_grid, x.shape[-1]))
    for index, _, cells in case.windows():
        window = x[(slice(None), *cells)].astype("float64")
        y[(slice(None), *index)] = function(window.reshape(len(x), -1, x.shape[-1]))
    return y


def lp_pool(case, x, p):
    return over_windows(case, x, lambda window: (abs(window) ** p).sum(1) ** (1 / p))


def soft_pool(case, x):
    def mean(window):
        return np.average(window, axis=1, weights=np.exp(window))

    return over_windows(case, x, mean)


def lp(case, x, p, **kwargs):
    return case.run(LpPooling(**case.settings, p=p, **kwargs), x)


def soft(case, x, **kwargs):
    return case.run(SoftPooling(**case.settings, **kwargs), x)


def slopes(layer, x):
    """Of the kit's loss, an unequal sum of the outputs, along inputs and weights."""
    layer.build(x.shape)
    _, given = backends.differentiated(layer, lambda of, t: of(t["x"]))({"x": x})
    return [keras.ops.convert_to_numpy(slope) for slope in given.values()]


def numeric_slopes(function, x, step=1e-6):
    """The same along inputs by differences, in float64."""
    x = x.astype("float64")
    weights = np.random.default_rng(0).normal(size=function(x).shape)
    slopes = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        near = np.zeros(x.shape)
        near[index] = step
        change = function(x + near) - function(x - near)
        slopes[index] = (weights * change).sum() / (2 * step)
    return slopes


@many(250)
@given(cases(), ORDERS)
def test_lp_is_the_norm_of_the_cells_on_the_grid(case, p):
    x = case.numbers()
    np.testing.assert_allclose(lp(case, x, p), lp_pool(case, x, p), rtol=1e-4)


@many(250)
@given(cases())
def test_soft_is_the_mean_weighted_by_the_softmax(case):
    x = case.numbers()
    np.testing.assert_allclose(soft(case, x), soft_pool(case, x), rtol=1e-5, atol=1e-5)


@many(60)
@given(cases())
def test_lp_goes_from_the_sum_to_the_maximum(case):
    x = case.numbers()
    total = over_windows(case, x, lambda window: abs(window).sum(1))
    np.testing.assert_allclose(lp(case, x, 1), total, rtol=1e-5)
    np.testing.assert_allclose(lp(case, x, 1e4), max_pool(case, abs(x))[0], rtol=1e-3)


@many(60)
@given(cases())
def test_soft_lies_between_mean_and_maximum(case):
    x = case.numbers()
    pooled = soft(case, x)
    assert (pooled <= max_pool(case, x)[0] + 1e-5).all()
    assert (pooled >= over_windows(case, x, lambda w: w.mean(1)) - 1e-5).all()


@many(60)
@given(cases(), st.sampled_from([-30000.0, -1.5, 0.0, 13.0, 30000.0]))
def test_soft_of_a_constant_is_the_constant(case, constant):
    x = np.full((2, *case.grid, 1), constant, "float32")
    np.testing.assert_allclose(soft(case, x), constant, rtol=1e-5)
    # Far above the numbers where exp overflows, and far below where it vanishes.
    np.testing.assert_allclose(soft(case, x, dtype="float16"), constant, rtol=1e-3)


@many(150)
@given(cases(paddings=("valid",)), ORDERS)
def test_lp_equals_that_of_torch(case, p):
    torch = pytest.importorskip("torch")
    x = abs(case.numbers())
    rank = len(case.grid)
    theirs = getattr(torch.nn.functional, f"lp_pool{rank}d")(
        torch.tensor(in_format(x, "channels_first").copy()),
        float(p),
        # PyTorch takes one number where there is one axis.
        case.pool_size if rank > 1 else case.pool_size[0],
        case.strides if rank > 1 else case.strides[0],
    )
    ours = in_format(lp(case, x, p), "channels_first")
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("grid", [(7,), (7, 10), (3, 7, 4)])
def test_one_setting_serves_every_rank_and_format(grid, data_format):
    case = Case(grid, (3,) * len(grid), (2,) * len(grid), "same", data_format)
    x = case.numbers()
    y = case.run(LpPooling(3, 2, data_format=data_format, p=3), x)
    np.testing.assert_allclose(y, lp_pool(case, x, 3), rtol=1e-5)
    y = case.run(SoftPooling(3, 2, data_format=data_format), x)
    np.testing.assert_allclose(y, soft_pool(case, x), atol=1e-5)


def test_odd_values_stay_in_their_windows_and_are_not_hidden():
    case = Case((6,), (2,), (2,))
    x = case.numbers()
    clean = lp(case, x, 3), soft(case, x)
    x[:, 4:] = np.nan
    for pooled, before in zip((lp(case, x, 3), soft(case, x)), clean, strict=True):
        np.testing.assert_array_equal(pooled[:, :2], before[:, :2])
        assert np.isnan(pooled[:, 2]).all()


def test_float16_neither_overflows_nor_vanishes():
    case = Case((2, 2), (2, 2), (2, 2))
    largest = 65504.0
    for window, p, norm, mean in (
        ([13, 13, 13, 13], 8, 13 * 4 ** (1 / 8), 13),
        ([20, 0, 0, 0], 20, 20, 20),
        ([300, -400, 0, 0], 2, 500, 300),
        ([largest, 0, -largest, 1], 50, largest * 2 ** (1 / 50), largest),
        ([3e-4, 4e-4, 0, 0], 2, 5e-4, 1.75e-4),
    ):
        x = np.reshape(window, (1, 2, 2, 1)).astype("float16")
        if norm < largest:
            y = lp(case, x, p, dtype="float16")
            np.testing.assert_allclose(np.squeeze(y), norm, rtol=2e-3)
        y = soft(case, x, dtype="float16")
        np.testing.assert_allclose(np.squeeze(y), mean, rtol=2e-3)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="Keras mixes in float32",
)
def test_values_are_as_exact_as_float64():
    case = Case((7,), (3,), (2,))
    x = case.numbers() + np.float64(0.1)
    y = lp(case, x, 3, dtype="float64")
    np.testing.assert_allclose(y, lp_pool(case, x, 3), rtol=1e-13)
    y = soft(case, x, dtype="float64")
    np.testing.assert_allclose(y, soft_pool(case, x), rtol=1e-12)


@pytest.mark.parametrize("case", [Case((5, 4), (3, 2), (2, 2)), Case((7,), (2,), (3,))])
def test_gradients_are_those_of_the_formula(case):
    x = np.random.default_rng(5).normal(size=(1, *case.grid, 2)).astype("float32")
    for layer, function in (
        (LpPooling(**case.settings, p=2.5), lambda x: lp_pool(case, x, 2.5)),
        (SoftPooling(**case.settings), lambda x: soft_pool(case, x)),
    ):
        (slope,) = slopes(layer, x)
        np.testing.assert_allclose(slope, numeric_slopes(function, x), atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 1e-4, -3.0, 60000.0])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_gradients_of_equal_values_are_finite(value, dtype):
    x = np.full((1, 5, 4, 1), value, dtype)
    poolings = [LpPooling(3, 2, p=p, dtype=dtype) for p in (0.5, 1, 2, 30)]
    learned = LpPooling(3, 2, p=1.5, learn_p=True, dtype=dtype)
    for layer in (*poolings, learned, SoftPooling(3, 2, dtype=dtype)):
        for slope in slopes(layer, x):
            assert np.isfinite(slope).all()


def test_zeros_among_others_get_the_gradient_of_their_limit():
    x = np.reshape([0.0, 2.0, 0.0, 0.0], (1, 4, 1)).astype("float32")
    for p in (0.5, 1, 2, 3):
        (slope,) = slopes(LpPooling(2, p=p), x)
        weights = np.random.default_rng(0).normal(size=(1, 2, 1))
        np.testing.assert_allclose(np.squeeze(slope)[[0, 2, 3]], 0)
        np.testing.assert_allclose(np.squeeze(slope)[1], weights[0, 0, 0], rtol=1e-5)


@pytest.mark.parametrize("p", [1.001, 1.5, 2, 3, 40.0, 1000.0])
def test_a_learned_p_starts_from_the_given_one(p):
    case = Case((7, 5), (3, 2), (2, 2))
    x = case.numbers()
    y = lp(case, x, p, learn_p=True)
    np.testing.assert_allclose(y, lp(case, x, p), rtol=1e-5)


def test_a_learned_p_follows_its_slope():
    case, p, step = Case((7, 5), (3, 2), (2, 2)), 2.5, 1e-6
    x = case.numbers()
    _, slope = slopes(LpPooling(**case.settings, p=p, learn_p=True), x)
    change = lp_pool(case, x, p + step) - lp_pool(case, x, p - step)
    weights = np.random.default_rng(0).normal(size=change.shape)
    along_p = (weights * change).sum() / (2 * step)
    # p = 1 + softplus(rho), whose slope is the sigmoid.
    np.testing.assert_allclose(slope, along_p * -math.expm1(1 - p), rtol=1e-3)


def test_the_slope_of_a_learned_p_is_a_float32_under_mixed_precision():
    x = np.full((1, 4000, 1), 20000, "float16")
    layer = LpPooling(2, p=1.5, learn_p=True)
    expected = slopes(layer, x.astype("float32"))[1]
    assert abs(expected) > np.finfo("float16").max
    layer = LpPooling(2, p=1.5, learn_p=True, dtype="mixed_float16")
    np.testing.assert_allclose(slopes(layer, x)[1], expected, rtol=0.01)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_learned_p_is_a_float32_weight_that_never_leaves_its_range(policy):
    layer = LpPooling(2, p=1.5, learn_p=True, dtype=policy)
    x = np.reshape([1.0, 1.0, 0.0, 3.0], (1, 4, 1))
    layer(x)
    assert layer.rho.dtype == "float32"
    assert len(layer.trainable_variables) == 1
    for rho, expected in ((-1e4, [2, 3]), (1e4, [1, 3])):
        layer.rho.assign(rho)
        y = keras.ops.convert_to_numpy(layer(x))
        np.testing.assert_allclose(np.squeeze(y), expected, rtol=1e-3)


def test_integer_maps_give_the_compute_dtype():
    case = Case((5,), (2,), (2,))
    x = case.numbers().astype("int32")
    for pooled, expected in (
        (lp(case, x, 2), lp_pool(case, x, 2)),
        (soft(case, x), soft_pool(case, x)),
    ):
        assert pooled.dtype == "float32"
        np.testing.assert_allclose(pooled, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("p", [0, -1, True, "2", None, math.inf, math.nan])
def test_p_must_be_positive_and_finite(p):
    with pytest.raises(ValueError, match="`p` must be a finite number larger than 0"):
        LpPooling(2, p=p)


@pytest.mark.parametrize("p", [0.5, 1])
def test_a_learned_p_must_be_larger_than_1(p):
    with pytest.raises(ValueError, match=r"or than 1 with learn_p=True. Received: p="):
        LpPooling(2, p=p, learn_p=True)


def test_learn_p_must_be_a_bool():
    with pytest.raises(ValueError, match="`learn_p` must be a bool"):
        LpPooling(2, learn_p=1)


@pytest.mark.parametrize("pooling", [LpPooling, SoftPooling])
@pytest.mark.parametrize("pool_size", [0, -2, True, 1.5, (2, 2, 2, 2)])
def test_windows_must_be_positive_ints(pooling, pool_size):
    with pytest.raises(ValueError, match="`pool_size` must be a positive int"):
        pooling(pool_size)


@pytest.mark.parametrize("pooling", [LpPooling, SoftPooling])
def test_windows_must_fit_into_the_grid(pooling):
    with pytest.raises(ValueError, match="must not be larger than the grid"):
        pooling(3, padding="valid")(np.zeros((1, 2, 5, 1)))
