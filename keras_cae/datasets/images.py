"""Reads the images of a prepared data set."""

import math
from typing import Any, NamedTuple

import numpy as np

from keras_cae.datasets.prepared import damaged

IN_MEMORY = 2**30  # bytes of decoded images that are kept; larger data sets stream
SHUFFLED = 2**28  # bytes of decoded images among which a stream is shuffled


class ImageFeature(NamedTuple):
    """The feature of a data set that holds the images."""

    key: str
    shape: tuple[int, int, int]
    dtype: np.dtype


def image_feature(builder: Any, image_size: Any = None) -> ImageFeature:
    """Returns the image feature of a data set, which need not be prepared.

    Args:
        builder: The TFDS builder of the data set.
        image_size: Height and width in pixels the images will get, or None if all
            images have one size.

    Raises:
        ValueError: If there is none, or its images cannot be batched.
    """
    import tensorflow_datasets as tfds

    features = dict(builder.info.features.items())
    found = [k for k, f in features.items() if isinstance(f, tfds.features.Image)]
    key = "image" if "image" in found else found[0] if len(found) == 1 else None
    if key is None:
        raise ValueError(
            "`name` must be a data set with one image feature, or one called 'image'. "
            f"Received: name={builder.name!r} with the features {features}"
        )
    height, width, channels = features[key].shape
    shape = (*(image_size or (height, width)), channels)
    dtype = np.dtype(features[key].np_dtype)
    if None in shape[:2]:
        raise ValueError(
            "`image_size` must be given, height and width, since the images of "
            f"{builder.name!r} differ in size. Received: image_size={image_size!r}"
        )
    if channels is None or dtype.kind != "u":
        raise ValueError(
            "`name` must be a data set whose images have known channels and unsigned "
            f"integers. Received: name={builder.name!r} with {features[key]}"
        )
    return ImageFeature(key, shape, dtype)


def read_images(
    builder: Any, split: str, feature: ImageFeature, seed: int | None
) -> Any:
    """Returns the images of a split one by one, as integers in [0, dtype.max].

    Args:
        builder: The TFDS builder of a prepared data set.
        split: The split, also a part of one.
        feature: What `image_feature` returned.
        seed: Shuffles anew in every epoch; None keeps the order.

    Raises:
        OSError: If the files cannot be read.
        ValueError: If there is no such split.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    count = _count(builder, split)
    image_bytes = math.prod(feature.shape) * feature.dtype.itemsize
    in_memory = count * image_bytes <= IN_MEMORY

    def image(example):
        return _resized(example[feature.key], feature.shape)

    images = builder.as_dataset(
        split=split,
        shuffle_files=not in_memory and seed is not None,
        read_config=tfds.ReadConfig(try_autocache=False, shuffle_seed=seed),
    ).map(image, tf.data.AUTOTUNE)
    if in_memory:
        images = _in_memory(images, count, builder.data_dir)
    if seed is not None:
        buffer = count if in_memory else min(count, max(1, SHUFFLED // image_bytes))
        images = images.shuffle(buffer, seed)
    return images


def _count(builder: Any, split: str) -> int:
    try:
        count = builder.info.splits[split].num_examples
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"`split` must be one of {list(builder.info.splits)}, or a part of one. "
            f"Received: split={split!r}: {error}"
        ) from error
    if count < 1:
        raise ValueError(
            f"`split` must hold at least one image. Received: split={split!r}"
        )
    return count


def _resized(image, shape: tuple[int, int, int]):
    import tensorflow as tf

    if tuple(image.shape) == shape:
        return image
    resized = tf.image.resize(image, shape[:2], antialias=True)
    return tf.saturate_cast(tf.round(resized), image.dtype)


def _in_memory(images: Any, count: int, folder: str) -> Any:
    """The same images from one array: a damaged file shows now and not in `fit`."""
    import tensorflow as tf

    errors = tf.errors
    try:
        with tf.device("CPU"):
            array = images.batch(count).get_single_element()
            return tf.data.Dataset.from_tensor_slices(array)
    except (
        errors.DataLossError,
        errors.FailedPreconditionError,
        errors.InvalidArgumentError,
        errors.NotFoundError,
    ) as error:
        raise damaged(folder, error.message) from error
