"""Activation and bias behind the pooling: the same numbers as in front of it."""

import keras
import numpy as np
import pytest

import keras_cae as cae
from keras_cae.callbacks.probe import Probe, find_pools

NON_DECREASING = ["relu", "leaky_relu", "elu", "tanh", "sigmoid", "softplus", None]


def in_order(block, monkeypatch):
    """Makes the block run its parts one after the other, as listed."""
    monkeypatch.setattr(block, "_pools_early", lambda: False)


def maps(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def fill(block):
    """Gives every weight a value of its own, the biases too."""
    for seed, weight in enumerate(block.trainable_weights):
        value = np.random.default_rng(seed).uniform(0.1, 0.5, weight.shape)
        weight.assign(np.where(value < 0.2, -value, value))


@pytest.mark.parametrize("activation", NON_DECREASING)
@pytest.mark.parametrize("shape", [(3, 7, 2), (2, 7, 10, 3), (2, 3, 5, 4, 2)])
def test_block_equals_its_parts_in_order(activation, shape):
    for norm in (None, "batch"):
        block = cae.EncoderBlock(4, convs=2, norm=norm, activation=activation)
        x = maps(*shape)
        block(x)
        fill(block)
        early = keras.ops.convert_to_numpy(block(x))
        assert block._pools_early()
        assert (block._last_bias() is None) == (norm == "batch")
        for part in block.layers:
            x = part(x)
        want = keras.ops.convert_to_numpy(x)
        np.testing.assert_allclose(early, want, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="GradientTape")
@pytest.mark.parametrize(
    "settings",
    [{}, {"residual": True}, {"dropout": 0.5}, {"pooling": keras.layers.MaxPool2D(2)}],
)
@pytest.mark.parametrize("activation", NON_DECREASING)
def test_gradients_equal_those_of_the_parts_in_order(activation, settings, monkeypatch):
    import tensorflow as tf

    x = tf.constant(maps(2, 9, 8, 3))
    found = []
    for early in (True, False):
        keras.utils.set_random_seed(0)
        block = cae.EncoderBlock(4, activation=activation, **settings)
        block(x)
        fill(block)
        if not early:
            in_order(block, monkeypatch)
        assert block._pools_early() == early
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = block(x, training=True)
            loss = tf.reduce_sum(y**2 + tf.sin(y))
        variables = [v.value for v in block.trainable_variables]
        found.append([y, *tape.gradient(loss, [x, *variables])])
    for got, want in zip(*found, strict=True):
        assert np.abs(want).max() > 0.1
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"activation": "gelu"},  # decreases somewhere
        {"activation": keras.layers.PReLU()},  # may learn to decrease
        {"pooling": "average"},
        {"pooling": None},
        {"pooling": cae.layers.MaxPooling(2, return_switches=True)},
    ],
)
def test_order_is_kept_where_it_matters(settings):
    block = cae.EncoderBlock(4, **settings)
    x = maps(2, 7, 10, 3)
    y = keras.tree.flatten(block(x))[0]
    for part in block.layers:
        x = part(x)
    want = keras.tree.flatten(x)[0]
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(y), keras.ops.convert_to_numpy(want), atol=1e-6
    )


def test_a_probe_sees_activated_maps():
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), cae.EncoderBlock(4, name="block")]
    )
    probe = Probe(model, find_pools(model))
    before, after = probe.predict_on_batch(maps(2, 8, 8, 1))["block"]
    assert before.min() == 0 < before.max()
    assert after.min() == 0


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_other_numbers_of_channels_are_refused(data_format):
    block = cae.EncoderBlock(4, data_format=data_format)
    x = maps(2, 8, 8, 8)
    block(x[..., :4] if data_format == "channels_last" else x[:, :4])
    with pytest.raises(ValueError, match=r"channel|axis"):
        block(x)


def test_the_dtype_is_the_poolings_where_it_has_one():
    pooling = keras.layers.MaxPooling2D(2, dtype="float32")
    block = cae.EncoderBlock(4, dtype="mixed_bfloat16", pooling=pooling)
    y = block(maps(2, 8, 8, 3))
    spec = block.compute_output_spec(keras.KerasTensor((2, 8, 8, 3)))
    assert keras.backend.standardize_dtype(y.dtype) == spec.dtype == "float32"


@pytest.mark.parametrize("part", [0, -1])
def test_activity_regularizers_see_the_maps_of_their_parts(part, monkeypatch):
    x, losses = maps(2, 8, 8, 3), []
    for early in (True, False):
        keras.utils.set_random_seed(0)
        block = cae.EncoderBlock(4)
        block(x)
        fill(block)
        block.layers[part].activity_regularizer = keras.regularizers.L2(1.0)
        if not early:
            in_order(block, monkeypatch)
        block(x)
        losses.append(float(sum(block.losses)))
    assert losses[0] == pytest.approx(losses[1]) != 0
