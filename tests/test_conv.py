"""Convolutions with few filters, and with their bias or without."""

import keras
import numpy as np
import pytest

import keras_cae as cae
from keras_cae.layers import _conv


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
        (x,) = arrays(0, (2, *grid, 16))
        want = keras.ops.convert_to_numpy(plain(x))
        assert want.shape == (2, *grid, filters)
        got = keras.ops.convert_to_numpy(ours(x))
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel_size", [(3, 1), (5, 3), (3, 5)])
def test_kernels_with_sides_of_their_own(kernel_size):
    ours, plain = pair(2, (6, 7), 2, kernel_size)
    (x,) = arrays(0, (2, 6, 7, 16))
    want = keras.ops.convert_to_numpy(plain(x))
    got = keras.ops.convert_to_numpy(ours(x))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="GradientTape")
@pytest.mark.parametrize("kernel_size", [2, 3])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_all_gradients_equal(rank, kernel_size):
    import tensorflow as tf

    for grid in GRIDS[rank]:
        x = tf.constant(arrays(0, (2, *grid, 16))[0])
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
    for cls in (getattr(_conv, f"Conv{rank}D"), plain):
        layer = cls(filters, kernel_size, padding="same", data_format="channels_last")
        layer.build((2, *grid, 16))
        layer.set_weights(arrays(1, *(weight.shape for weight in layer.weights)))
        layers.append(layer)
    return layers


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.function")
@pytest.mark.parametrize("jit_compile", [False, True])
def test_unknown_sizes(jit_compile):
    import tensorflow as tf

    ours, plain = pair(2, (None, None), 3, 3)
    shape = (2, 7, 10, 16) if jit_compile else (None, None, None, 16)  # XLA must know
    spec = tf.TensorSpec(shape)
    call = tf.function(ours, input_signature=[spec], jit_compile=jit_compile)
    (x,) = arrays(0, (2, 7, 10, 16))
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
        shape, filters=(16,), kernel_size=kernel_size, data_format=data_format
    )
    conv = model.decoder.get_layer("output_conv")
    maps = (
        (2, 16, *shape[1:]) if data_format == "channels_first" else (2, *shape[:-1], 16)
    )
    (x,) = arrays(0, maps)
    want = keras.ops.conv(x, conv.kernel, 1, "same", data_format)
    got = conv(x)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(got), keras.ops.convert_to_numpy(want), atol=1e-5
    )


@pytest.mark.parametrize("shape", [(7, 9, 3), (6, 5, 4, 1)])
def test_a_saved_model_comes_back(shape, tmp_path):
    model = cae.autoencoder(shape, filters=(16,))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    (x,) = arrays(0, (2, *shape))
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(model(x)), keras.ops.convert_to_numpy(again(x))
    )
    conv = again.decoder.get_layer("output_conv")
    assert type(conv) is getattr(_conv, f"Conv{len(shape) - 1}D")


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_few_filters_take_the_fast_form(rank, monkeypatch):
    seen = []

    def watched(*arguments):
        seen.append(arguments)
        return by_rows(*arguments)

    by_rows = _conv.by_rows
    monkeypatch.setattr(_conv, "by_rows", watched)
    for filters, ran in ((5, 1), (6, 0)):  # 3 * 5 numbers fill a vector of 16
        seen.clear()
        _conv.conv(rank, filters, 3)(np.zeros((1, *[4] * rank, 16), "float32"))
        assert len(seen) == ran


def test_layers_have_the_names_by_which_files_know_weights():
    for cls in (_conv.Conv1D, _conv.Conv2D, _conv.Conv3D):
        assert cls.__name__ == cls.__mro__[2].__name__
        assert issubclass(cls, getattr(keras.layers, cls.__name__))


@pytest.mark.parametrize("filters", [4, 8])
def test_a_bias_is_added_to_channels_that_come_first(filters):
    layer = _conv.conv(2, filters, 3, data_format="channels_first")
    (x,) = arrays(0, (1, 2, 3, filters))  # Keras adds it along this last axis
    layer.build(x.shape)
    layer.bias.assign(np.arange(filters))
    unbiased = keras.ops.convert_to_numpy(layer(x, biased=False))
    biased = keras.ops.convert_to_numpy(layer(x))
    added = np.broadcast_to(np.arange(filters).reshape(-1, 1, 1), biased.shape)
    np.testing.assert_allclose(biased - unbiased, added, atol=1e-5)
