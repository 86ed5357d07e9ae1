import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import Case, average_pool, cases, conv, many, max_pool

from keras_cae.layers import GatedPooling, MixedPooling
from keras_cae.testing import backends


def blend(case, x, share):
    return share * max_pool(case, x)[0] + (1 - share) * average_pool(case, x)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, "float64")))


def shape_of(case, channels=2):
    """The shape of an input of a layer in the data format of the case."""
    if case.data_format == "channels_first":
        return (None, channels, *case.grid)
    return (None, *case.grid, channels)


def mixed(case, logit=None, **kwargs):
    layer = MixedPooling(**case.settings, **kwargs)
    layer.build(shape_of(case))
    if logit is not None:
        layer.logit.assign(logit)
    return layer


def gated(case, kernel=None, **kwargs):
    layer = GatedPooling(**case.settings, **kwargs)
    layer.build(shape_of(case))
    if kernel is not None:
        layer.kernel.assign(kernel)
    return layer


def kernel_for(case, channels):
    random = np.random.default_rng(case.seed)
    return random.normal(size=(*case.pool_size, channels)).astype("float32")


def gates(case, x, kernel):
    """The kernel on each window of each channel; one kernel serves all of them."""
    kernel = np.broadcast_to(kernel, (*case.pool_size, x.shape[-1]))
    parts = [
        conv(case, x[..., c : c + 1], kernel[..., c, None, None])
        for c in range(x.shape[-1])
    ]
    return np.concatenate(parts, -1)


def slopes_of(layer, x):
    """Of the kit's loss, an unequal sum of the outputs, along input and weight."""
    layer.build(x.shape)
    _, given = backends.differentiated(layer, lambda of, t: of(t["x"]))({"x": x})
    return [keras.ops.convert_to_numpy(slope) for slope in given.values()]


@many(200)
@given(cases(), st.sampled_from([0.1, 0.5, 0.75]), st.booleans())
def test_mixed_starts_from_the_given_share_of_the_maximum(case, mix, per_channel):
    x = case.numbers()
    y = case.run(mixed(case, mix=mix, per_channel=per_channel), x)
    np.testing.assert_allclose(y, blend(case, x, mix), rtol=1e-4, atol=1e-5)


@many(100)
@given(cases())
def test_each_channel_can_have_a_share_of_its_own(case):
    x, logit = case.numbers(), [-1.5, 2.0]
    y = case.run(mixed(case, logit, per_channel=True), x)
    expected = blend(case, x, sigmoid(logit))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@many(250)
@given(cases(), st.sampled_from([1, 2]))
def test_gated_takes_the_share_that_its_kernel_reads(case, kernels):
    x, kernel = case.numbers(), kernel_for(case, kernels)
    y = case.run(gated(case, kernel, per_channel=kernels == 2), x)
    expected = blend(case, x, sigmoid(gates(case, x, kernel)))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@many(60)
@given(cases())
def test_gated_starts_half_way(case):
    x = case.numbers()
    y = case.run(gated(case), x)
    np.testing.assert_allclose(y, blend(case, x, 0.5), rtol=1e-4, atol=1e-5)


@many(60)
@given(cases())
def test_the_limits_are_average_and_maximum(case):
    x = case.numbers()
    y = case.run(mixed(case, [-1e3]), x)
    np.testing.assert_allclose(y, average_pool(case, x), atol=1e-5)
    y = case.run(mixed(case, [1e3]), x)
    np.testing.assert_array_equal(y, max_pool(case, x)[0])
    # A kernel that is huge on positive numbers opens the gate, or shuts it.
    x = 1 + abs(x)
    huge = np.full((*case.pool_size, 1), 1e3)
    y = case.run(gated(case, -huge), x)
    np.testing.assert_allclose(y, average_pool(case, x), rtol=1e-5)
    np.testing.assert_array_equal(case.run(gated(case, huge), x), max_pool(case, x)[0])


def test_odd_values_stay_in_their_windows_and_are_not_hidden():
    case = Case((6,), (2,), (2,))
    x = case.numbers()
    for layer in (mixed(case), gated(case, kernel_initializer="ones")):
        clean = case.run(layer, x)
        odd = x.copy()
        odd[:, 4:] = np.nan
        y = case.run(layer, odd)
        np.testing.assert_array_equal(y[:, :2], clean[:, :2])
        assert np.isnan(y[:, 2]).all()


def test_float16_does_not_overflow():
    case = Case((3, 3), (2, 2), (2, 2))
    x = np.full((1, 3, 3, 2), 60000, "float16")
    for layer in (
        mixed(case, dtype="float16"),
        gated(case, dtype="mixed_float16", kernel_initializer="ones"),
    ):
        y = case.run(layer, x)
        assert y.dtype == "float16"
        np.testing.assert_array_equal(y, x[:, :2, :2])


@pytest.mark.parametrize("pooling", [MixedPooling, GatedPooling])
def test_weights_stay_in_float32_under_mixed_precision(pooling):
    layer = pooling(2, per_channel=True, dtype="mixed_float16")
    layer(np.zeros((1, 4, 3)))
    (weight,) = layer.trainable_variables
    assert weight.dtype == "float32"
    assert weight.shape[-1] == 3


@pytest.mark.parametrize("pooling", [MixedPooling, GatedPooling])
def test_slopes_of_weights_are_float32_under_mixed_precision(pooling):
    x = np.tile(np.array([0, 60000], "float16")[None, :, None], (1, 2000, 1))
    slopes = []
    for dtype in ("float32", "mixed_float16"):
        _, slope = slopes_of(pooling(2, dtype=dtype), x)
        slopes.append(slope)
    assert abs(slopes[0]).max() > np.finfo("float16").max
    np.testing.assert_allclose(slopes[1], slopes[0], rtol=0.02)


@pytest.mark.parametrize("value", [0.0, -3.0, 60000.0])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_gradients_of_equal_values_are_finite(value, dtype):
    x = np.full((1, 5, 4, 1), value, dtype)
    for layer in (
        MixedPooling(3, 2, mix=0.001, dtype=dtype),
        GatedPooling(3, 2, dtype=dtype),
    ):
        of_input, of_weight = slopes_of(layer, x)
        assert np.isfinite(of_input).all()
        assert np.isfinite(of_weight).all()


@pytest.mark.parametrize("target", ["average", "max"])
@pytest.mark.parametrize("pooling", [MixedPooling, GatedPooling])
def test_the_share_is_learned(pooling, target):
    case = Case((8, 8), (2, 2), (2, 2))
    x = case.numbers(channels=1) + 5
    y = average_pool(case, x) if target == "average" else max_pool(case, x)[0]
    model = keras.Sequential([keras.Input((8, 8, 1)), pooling(2)])
    model.compile(keras.optimizers.Adam(0.1), "mse")
    before, *_, after = model.fit(x, y, epochs=20, verbose=0).history["loss"]
    assert after < before / 10


@pytest.mark.parametrize("mix", [0, 1, 1.5, -0.1, True, None, "half", float("nan")])
def test_mix_must_lie_between_0_and_1(mix):
    with pytest.raises(ValueError, match="`mix` must be a number between 0 and 1"):
        MixedPooling(2, mix=mix)


@pytest.mark.parametrize("pooling", [MixedPooling, GatedPooling])
def test_per_channel_must_be_a_bool(pooling):
    with pytest.raises(ValueError, match="`per_channel` must be a bool"):
        pooling(2, per_channel="channel")


@pytest.mark.parametrize("pooling", [MixedPooling, GatedPooling])
def test_only_weights_of_channels_need_to_know_their_number(pooling):
    image = keras.Input((7, 7, None))
    assert pooling(2)(image).shape == (None, 4, 4, None)
    with pytest.raises(ValueError, match="must have a known number of channels"):
        pooling(2, per_channel=True)(image)


@pytest.mark.parametrize("pooling", [MixedPooling, GatedPooling])
@pytest.mark.parametrize("pool_size", [0, True, 1.5, (2, 2, 2, 2)])
def test_windows_must_be_positive_ints(pooling, pool_size):
    with pytest.raises(ValueError, match="`pool_size` must be a positive int"):
        pooling(pool_size)
