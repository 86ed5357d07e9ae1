"""Images of TFDS data sets as batches of (input, target) for an autoencoder."""

import functools
import inspect
import math
import os
from collections.abc import Callable
from typing import Any

import keras

from keras_cae import _checks
from keras_cae.datasets.images import image_feature, read_images
from keras_cae.datasets.prepared import find_builder, open_builder


def load(
    name: str = "digits",
    split: str = "train",
    *,
    batch_size: int = 128,
    corrupt: float | Callable | None = None,
    shuffle_seed: int | None = 0,
    data_dir: str | os.PathLike | None = None,
    image_size: tuple[int, int] | None = None,
    drop_remainder: bool = False,
) -> Any:
    """Loads the images of a data set as batches for an autoencoder.

    `"digits"` is part of this package: 6,000 training and 1,000 test images of MNIST,
    28x28x1, the same number of each class. Every other name is a data set of TFDS: what
    lies prepared is used without any network, else it is downloaded and prepared once.

    The images are decoded once and kept in memory as integers, up to 1 GiB of them; a
    larger data set is read from its files in every epoch. Splits whose name starts with
    "train" are shuffled anew in every epoch; all others keep their order.

    Args:
        name: The name of the data set: "digits", or as TFDS writes it, for example
            "mnist" or "stanford_dogs:0.2.0".
        split: The split, also a part of one, such as "test" or "train[:90%]".
        batch_size: Images a batch.
        corrupt: What makes the input from the target. None: they are the same. A float:
            the standard deviation of Gaussian noise on the values, clipped to [0, 1];
            training splits get new noise in every epoch, others always the same. A
            function (of TensorFlow operations) or a Keras layer: is given a float32
            batch and returns one of the same shape; if it takes `training`, it gets
            True.
        shuffle_seed: The seed of order and noise. If `keras.utils.set_random_seed` was
            called, both seeds decide. None: no split is shuffled.
        data_dir: The folder of all prepared data sets. None means TFDS' own, which is
            `$TFDS_DATA_DIR` or else `~/tensorflow_datasets`.
        image_size: Height and width in pixels to which the images are resized
            (bilinear, anti-aliased). Needed where the images differ in size.
        drop_remainder: Whether a last batch smaller than `batch_size` is left out.

    Returns:
        A `tf.data.Dataset` of `(input, target)`: float32 in [0, 1], of the shape
        `(batch, height, width, channels)`.

    Raises:
        ImportError: If TensorFlow, TFDS or importlib_resources is missing.
        OSError: If the data cannot be prepared in the folder, or is damaged.
        ValueError: If an argument breaks its rule, or the data set has no images.

    Example:
        >>> import tempfile
        >>> from keras_cae import data
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     test = data.load("digits", "test", corrupt=0.1, data_dir=folder)
        >>> len(test)
        8
        >>> noisy, clean = next(iter(test))
        >>> clean.shape
        TensorShape([128, 28, 28, 1])
    """
    _check_text("name", name)
    _check_text("split", split)
    batch_size = _checks.positive_int("batch_size", batch_size)
    _check_corrupt(corrupt)
    _check_seed(shuffle_seed)
    _check_data_dir(data_dir)
    _check_image_size(image_size)
    _checks.flag("drop_remainder", drop_remainder)

    # Before the download: it would be long, and in vain without images of one size.
    feature = image_feature(find_builder(name, data_dir), image_size)
    builder = open_builder(name, data_dir)
    train = split.startswith("train")
    images = read_images(builder, split, feature, shuffle_seed if train else None)
    batches = _scaled(images.batch(batch_size, drop_remainder))
    return _pairs(batches, corrupt, seed=shuffle_seed or 0, fresh=train)


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise ValueError(
            f"`{name}` must be a string, not empty. Received: {name}={value!r}"
        )


def _check_corrupt(corrupt: Any) -> None:
    if corrupt is None or callable(corrupt):
        return
    if not _checks.is_real(corrupt) or not 0 < corrupt < math.inf:
        raise ValueError(
            "`corrupt` must be None, a positive standard deviation, or a function or "
            f"Keras layer. Received: corrupt={corrupt!r}"
        )


def _check_seed(seed: Any) -> None:
    if seed is not None and (not _checks.is_int(seed) or not 0 <= seed < 2**63):
        raise ValueError(
            "`shuffle_seed` must be None or an int from 0 to 2**63 - 1. "
            f"Received: shuffle_seed={seed!r}"
        )


def _check_data_dir(data_dir: Any) -> None:
    if data_dir is not None and not isinstance(data_dir, (str, os.PathLike)):
        raise ValueError(
            f"`data_dir` must be None or a path. Received: data_dir={data_dir!r}"
        )


def _check_image_size(image_size: Any) -> None:
    if image_size is None:
        return
    pair = isinstance(image_size, (tuple, list)) and len(image_size) == 2
    if not pair or not all(_checks.is_int(n) and n > 0 for n in image_size):
        raise ValueError(
            "`image_size` must be None or two positive ints, height and width. "
            f"Received: image_size={image_size!r}"
        )


def _scaled(batches: Any) -> Any:
    """Float32 in [0, 1]."""
    import tensorflow as tf

    def scale(batch):
        return tf.cast(batch, "float32") / batch.dtype.max

    return batches.map(scale, tf.data.AUTOTUNE)


def _pairs(batches: Any, corrupt: Any, seed: int, fresh: bool) -> Any:
    """The batches as (input, target), prefetched."""
    import tensorflow as tf

    def same(target):
        return target, target

    if corrupt is None:
        pairs = batches.map(same)
    elif callable(corrupt):
        pairs = _corrupted(batches, corrupt)
    else:
        pairs = _noisy(batches, float(corrupt), seed, fresh)
    return pairs.prefetch(tf.data.AUTOTUNE)


def _noisy(batches: Any, stddev: float, seed: int, fresh: bool) -> Any:
    """Adds Gaussian noise to the inputs, in every epoch new noise if `fresh`."""
    import tensorflow as tf

    if fresh:
        keys = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)
    else:
        keys = tf.data.Dataset.range(2**62)

    def add_noise(target, key):
        shape, seeds = tf.shape(target), (seed, key)
        noise = tf.random.stateless_normal(shape, seeds, stddev=stddev)
        return tf.clip_by_value(target + noise, 0.0, 1.0), target

    return tf.data.Dataset.zip((batches, keys)).map(add_noise, tf.data.AUTOTUNE)


def _corrupted(batches: Any, corrupt: Callable) -> Any:
    """Inputs made by a function or layer, one batch after another: it may be random."""
    import tensorflow as tf

    shape = batches.element_spec.shape
    call = corrupt.call if isinstance(corrupt, keras.Layer) else corrupt
    if "training" in inspect.signature(call).parameters:
        corrupt = functools.partial(corrupt, training=True)

    def pair(target):
        return tf.cast(corrupt(target), "float32"), target

    def restore_shape(corrupted, target):
        return tf.ensure_shape(corrupted, shape), target

    pairs = batches.map(pair)
    received = pairs.element_spec[0].shape
    if not received.is_compatible_with(shape):
        raise ValueError(
            f"`corrupt` must return a batch of the shape it is given, {shape}. "
            f"Received: shape {received} from corrupt={corrupt!r}"
        )
    return pairs.map(restore_shape)
