"""The channels of maps: one number each, in both formats and at low precision."""

import keras
import numpy as np
import pytest
from oracles import DATA_FORMATS, from_format, in_format

import keras_cae as cae
from keras_cae.layers import _channels


def maps(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def fill(layer):
    for seed, weight in enumerate(layer.weights):
        value = np.random.default_rng(seed).uniform(0.5, 1.5, weight.shape)
        weight.assign(value)


@pytest.mark.parametrize("grid", [(4,), (3, 4), (2, 3, 4)])
def test_a_bias_is_added_to_each_channel_whatever_the_grid(grid):
    """The last axis is as long as there are channels: Keras takes it for them."""
    x, bias = maps(2, *grid, 4), maps(4)
    for data_format in DATA_FORMATS:
        got = _channels.add_bias(in_format(x, data_format), bias, data_format)
        np.testing.assert_array_equal(from_format(got, data_format), x + bias)


@pytest.mark.parametrize("norm", [None, "batch", "group", "instance", "layer"])
@pytest.mark.parametrize("grid", [(6, 4), (4, 4)])
@pytest.mark.parametrize("residual", [False, True])
def test_blocks_compute_the_same_in_both_formats(norm, grid, residual):
    if norm == "layer" and keras.backend.backend() == "torch":
        pytest.skip("LayerNormalization of Keras takes the last axis on PyTorch")
    for cls in (cae.EncoderBlock, cae.DecoderBlock):
        answers = []
        for data_format in DATA_FORMATS:
            x = in_format(maps(2, *grid, 3), data_format)
            settings = {"convs": 2, "norm": norm, "residual": residual}
            block = cls(4, data_format=data_format, **settings)
            block(x)
            fill(block)
            answers.append(from_format(block(x), data_format))
        assert np.std(answers[0]) > 0.01
        np.testing.assert_allclose(*answers, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="GradientTape")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_the_gradient_of_a_bias_is_exact_at_any_precision(dtype, data_format):
    import tensorflow as tf

    shape = (4, 64, 64, 8) if data_format == "channels_last" else (4, 8, 64, 64)
    x = tf.cast(maps(*shape), dtype)
    bias = tf.zeros(8)
    with tf.GradientTape() as tape:
        tape.watch(bias)
        y = _channels.add_bias(x, bias, data_format)
        loss = tf.reduce_sum(tf.cast(y * y, "float32"))
    assert y.dtype == x.dtype
    axes = [axis for axis in range(4) if axis != _channels.axis_in(4, data_format)]
    want = np.asarray(tf.cast(x, "float32")).astype("float64").sum(tuple(axes)) * 2
    got = np.asarray(tape.gradient(loss, bias))
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=0.2)
