"""The convolution back to the image, as one with stride 2."""

import keras
import numpy as np
import pytest

import keras_cae as cae
from keras_cae import _output

tensorflow_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow gains by it"
)


def arrays(seed, *shapes):
    numbers = np.random.default_rng(seed)
    return [numbers.normal(size=shape).astype("float32") for shape in shapes]


@tensorflow_only
@pytest.mark.parametrize("filters", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel_size", [3, 5, (1, 3)])
@pytest.mark.parametrize("grid", [(8, 6), (7, 9), (1, 4), (6, 1), (2, 3)])
def test_images_and_all_gradients_equal(grid, kernel_size, filters):
    check(_output.OutputConv2D, keras.layers.Conv2D, grid, kernel_size, filters)


@tensorflow_only
@pytest.mark.parametrize("grid", [(4, 6, 2), (3, 5, 7), (1, 2, 4)])
@pytest.mark.parametrize("filters", [1, 3])
def test_volumes_and_all_gradients_equal(grid, filters):
    check(_output.OutputConv3D, keras.layers.Conv3D, grid, 3, filters)


def check(ours, plain, grid, kernel_size, filters):
    import tensorflow as tf

    (x,) = arrays(0, (2, *grid, 5))
    found = []
    for cls in (ours, plain):
        layer = cls(filters, kernel_size, padding="same")
        layer.build(x.shape)
        layer.set_weights(arrays(1, *(weight.shape for weight in layer.weights)))
        assert cls is plain or _output._pays(layer)
        given = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(given)
            y = layer(given)
            loss = tf.reduce_sum(y**2 + tf.sin(y))
        variables = [weight.value for weight in layer.weights]
        found.append([y, *tape.gradient(loss, [given, *variables])])
    assert found[0][0].shape == (2, *grid, filters)
    for got, want in zip(*found, strict=True):
        assert np.abs(want).max() > 0.1
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@tensorflow_only
@pytest.mark.parametrize("jit_compile", [False, True])
def test_unknown_sizes(jit_compile):
    import tensorflow as tf

    layer = _output.OutputConv2D(3, 3, padding="same")
    layer.build((None, None, None, 5))
    # XLA knows the sizes when it compiles.
    shape = None if not jit_compile else (2, 7, 10, 5)
    spec = tf.TensorSpec(shape or (None, None, None, 5))
    call = tf.function(layer, input_signature=[spec], jit_compile=jit_compile)
    (x,) = arrays(0, (2, 7, 10, 5))
    want = keras.ops.conv(x, layer.kernel, 1, "same", data_format="channels_last")
    np.testing.assert_allclose(call(x), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "data_format", "kernel_size"),
    [
        ((8, 8, 5), "channels_last", 3),  # many filters
        ((8, 8, 1), "channels_last", 4),
        ((8, 8, 1), "channels_last", 1),
        ((1, 8, 8), "channels_first", 3),
        ((8, 1), "channels_last", 3),
    ],
)
def test_other_output_convolutions_are_as_in_keras(shape, data_format, kernel_size):
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
