"""Convolutional autoencoders of reusable Keras 3 parts."""

from importlib.metadata import PackageNotFoundError, version

try:
    import keras as _keras  # noqa: F401
except ImportError as error:
    raise ImportError(
        "keras_cae needs Keras and one of its backends: "
        'pip install "keras_cae[tensorflow]" (or "keras_cae[tensorflow-cpu]", '
        f'"keras_cae[jax]", "keras_cae[torch]"). {error}'
    ) from None

from keras_cae import callbacks, data, export, layers
from keras_cae.blocks import DecoderBlock, EncoderBlock
from keras_cae.models import Autoencoder, autoencoder

try:
    __version__ = version("keras_cae")
except PackageNotFoundError:  # a checkout that was not installed
    __version__ = "0+unknown"

__all__ = [
    "Autoencoder",
    "DecoderBlock",
    "EncoderBlock",
    "autoencoder",
    "callbacks",
    "data",
    "export",
    "layers",
]
