"""An autoencoder of this package, and the same net in plain Keras."""

import contextlib

import keras
from keras import layers

import keras_cae as cae
from benchmarks.cases import Case


def ours(case: Case, dtype: str = "float32", jit_compile: bool | str = "auto"):
    """`autoencoder()` with its defaults, compiled."""
    with _policy(dtype):
        model = cae.autoencoder(case.shape, filters=case.filters)
    return _compiled(model, jit_compile)


def plain(case: Case, dtype: str = "float32", jit_compile: bool | str = "auto"):
    """The net that somebody writes by hand, compiled."""
    with _policy(dtype):
        x = image = keras.Input(case.shape)
        for filters in case.filters:
            x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
            x = layers.MaxPooling2D(2, padding="same")(x)
        for filters in case.decoder_filters():
            x = layers.UpSampling2D(2, interpolation="nearest")(x)
            x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.Conv2D(case.shape[-1], 3, padding="same")(x)
        x = layers.Activation("sigmoid", dtype="float32")(x)
    return _compiled(keras.Model(image, x), jit_compile)


def _compiled(model: keras.Model, jit_compile: bool | str) -> keras.Model:
    model.compile("adam", "mse", jit_compile=jit_compile)
    return model


@contextlib.contextmanager
def _policy(dtype: str):
    """Keras' default for the layers made within."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def train(model: keras.Model, case: Case):
    """A whole training step, as a call that returns the loss."""
    images = keras.ops.convert_to_tensor(case.images())
    return lambda: float(model.train_on_batch(images, images))


def predict(model: keras.Model, case: Case):
    """The reconstructions of a batch, as a call that returns an array."""
    images = keras.ops.convert_to_tensor(case.images())
    return lambda: model.predict_on_batch(images)
