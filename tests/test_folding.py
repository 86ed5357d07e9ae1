"""Rewrites inside blocks: the same numbers as the plain layers."""

import keras
import numpy as np
import pytest

import keras_cae as cae

FORMATS = ("channels_last", "channels_first")


def plain(block, x, size):
    """The same function of plain Keras layers, with the weights of the block."""
    rank, data_format = len(x.shape) - 2, block.data_format
    for axis in range(rank):
        axis += 2 if data_format == "channels_first" else 1
        x = keras.ops.repeat(x, size, axis=axis)
    for number in range(1, block.convs + 1):
        conv = next(p for p in block.layers if p.name == f"conv_{number}")
        x = keras.ops.conv(x, conv.kernel, 1, "same", data_format)
        shape = [1] * (rank + 2)
        shape[1 if data_format == "channels_first" else -1] = -1
        x = keras.ops.relu(x + keras.ops.reshape(conv.bias, shape))
    return x


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("kernel_size", "size"), [(1, 2), (3, 2), (5, 3), (3, 4)])
def test_block_equals_plain_layers(rank, kernel_size, size, data_format):
    if rank == 3 and data_format == "channels_first":
        pytest.skip("TensorFlow's CPU kernels for these volumes are broken")
    x = np.random.default_rng(0).normal(size=(2, *(4, 3, 2)[:rank], 3))
    x = x.astype("float32")
    if data_format == "channels_first":
        x = np.moveaxis(x, -1, 1)
    settings = {"kernel_size": kernel_size, "size": size, "data_format": data_format}
    block = cae.DecoderBlock(4, convs=2, **settings)
    y = block(x)
    for weight in block.weights:
        weight.assign(0.2 * np.random.default_rng(1).normal(size=weight.shape))
    y = keras.ops.convert_to_numpy(block(x))
    assert block._folds(keras.ops.convert_to_tensor(x), None)
    assert np.std(y) > 0.05
    want = keras.ops.convert_to_numpy(plain(block, x, size))
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="GradientTape")
def test_gradients_equal_those_of_plain_layers():
    import tensorflow as tf

    x = tf.random.stateless_normal((2, 5, 7, 3), (0, 0))
    block = cae.DecoderBlock(4)
    block(x)
    gradients = []
    for function in (block, lambda x: plain(block, x, 2)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
            loss = tf.reduce_sum(y**2 + y * tf.cos(y))
        variables = [v.value for v in block.trainable_variables]
        gradients.append(tape.gradient(loss, [x, *variables]))
    for got, want in zip(*gradients, strict=True):
        assert np.abs(want).max() > 0.1
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("like", [(7, 9), (8, 10)])
def test_odd_grids_are_not_folded_and_exact(like):
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype("float32")
    block = cae.DecoderBlock(4)
    y = keras.ops.convert_to_numpy(block(x, like=like))
    assert block._folds(keras.ops.convert_to_tensor(x), like) == (like == (8, 10))
    up = keras.ops.repeat(keras.ops.repeat(x, 2, axis=1), 2, axis=2)
    conv = block.layers[1]
    want = keras.ops.relu(conv(up[:, : like[0], : like[1]]))
    np.testing.assert_allclose(y, keras.ops.convert_to_numpy(want), atol=1e-5)
