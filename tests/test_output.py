"""The convolution back to the image, as one with stride 2."""

import keras
import numpy as np
import pytest

import keras_cae as cae
from keras_cae import _output


def arrays(seed, *shapes):
    numbers = np.random.default_rng(seed)
    return [numbers.normal(size=shape).astype("float32") for shape in shapes]


GRIDS = {
    1: [(8,), (7,), (1,), (2,)],
    2: [(8, 6), (7, 9), (1, 4), (6, 1), (2, 3)],
    3: [(4, 6, 2), (3, 5, 7), (1, 2, 4)],
}


@pytest.mark.parametrize("filters", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [2, 3, 4, 5])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_it_gives_what_keras_gives(rank, kernel_size, filters):
    for grid in GRIDS[rank]:
        ours, plain = pair(rank, grid, filters, kernel_size)
        (x,) = arrays(0, (2, *grid, 5))
        want = keras.ops.convert_to_numpy(plain(x))
        assert want.shape == (2, *grid, filters)
        got = keras.ops.convert_to_numpy(ours(x))
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel_size", [(3, 1), (5, 3), (3, 5)])
def test_kernels_with_sides_of_their_own(kernel_size):
    ours, plain = pair(2, (6, 7), 2, kernel_size)
    (x,) = arrays(0, (2, 6, 7, 5))
    want = keras.ops.convert_to_numpy(plain(x))
    got = keras.ops.convert_to_numpy(ours(x))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="GradientTape")
@pytest.mark.parametrize("kernel_size", [2, 3])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_all_gradients_equal(rank, kernel_size):
    import tensorflow as tf

    for grid in GRIDS[rank]:
        x = tf.constant(arrays(0, (2, *grid, 5))[0])
        found = []
        for layer in pair(rank, grid, 3, kernel_size):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x)
                loss = tf.reduce_sum(y**2 + tf.sin(y))
            variables = [weight.value for weight in layer.weights]
            found.append(tape.gradient(loss, [x, *variables]))
        for got, want in zip(*found, strict=True):
            assert np.abs(want).max() > 0.1
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)


def pair(rank, grid, filters, kernel_size):
    """The output convolution and Keras', with the same weights."""
    plain = getattr(keras.layers, f"Conv{rank}D")
    layers = []
    for cls in (_output.output_conv(rank), plain):
        layer = cls(filters, kernel_size, padding="same", data_format="channels_last")
        layer.build((2, *grid, 5))
        layer.set_weights(arrays(1, *(weight.shape for weight in layer.weights)))
        layers.append(layer)
    return layers


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.function")
@pytest.mark.parametrize("jit_compile", [False, True])
def test_unknown_sizes(jit_compile):
    import tensorflow as tf

    ours, plain = pair(2, (None, None), 3, 3)
    shape = (2, 7, 10, 5) if jit_compile else (None, None, None, 5)  # XLA must know
    spec = tf.TensorSpec(shape)
    call = tf.function(ours, input_signature=[spec], jit_compile=jit_compile)
    (x,) = arrays(0, (2, 7, 10, 5))
    np.testing.assert_allclose(call(x), plain(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "data_format", "kernel_size"),
    [
        ((8, 8, 6), "channels_last", 3),  # more than a vector holds
        ((8, 8, 1), "channels_last", 1),
        ((1, 8, 6), "channels_first", 3),
        ((8, 1), "channels_last", 3),
    ],
)
def test_output_convolutions_of_models(shape, data_format, kernel_size):
    model = cae.autoencoder(
        shape, filters=(4,), kernel_size=kernel_size, data_format=data_format
    )
    conv = model.decoder.get_layer("output_conv")
    maps = (
        (2, 4, *shape[1:]) if data_format == "channels_first" else (2, *shape[:-1], 4)
    )
    (x,) = arrays(0, maps)
    want = keras.ops.conv(x, conv.kernel, 1, "same", data_format)
    got = conv(x)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(got), keras.ops.convert_to_numpy(want), atol=1e-5
    )


@pytest.mark.parametrize("shape", [(7, 9, 3), (6, 5, 4, 1)])
def test_a_saved_model_comes_back(shape, tmp_path):
    model = cae.autoencoder(shape, filters=(4,))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    (x,) = arrays(0, (2, *shape))
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(model(x)), keras.ops.convert_to_numpy(again(x))
    )
    conv = again.decoder.get_layer("output_conv")
    assert type(conv) is _output.output_conv(len(shape) - 1)
