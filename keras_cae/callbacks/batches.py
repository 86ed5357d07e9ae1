"""The first samples of a data set together with their targets or labels."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_cae.callbacks.samples import are_arrays, first_samples, no_inputs


def first_pairs(inputs: Any, count: int) -> tuple[Any, Any]:
    """The first `count` samples and what the data set gives along with them, or None.

    `inputs` is an array, a nest of arrays or a data set, of which as many batches are
    read as are needed.
    """
    if are_arrays(inputs):
        return first_samples(inputs, count), None
    batches = list(_batches(inputs, count))
    if not batches:
        raise ValueError(
            "`inputs` must hold at least one sample. Received: a data set without a "
            "batch"
        )
    xs, ys = zip(*batches, strict=True)
    x = keras.tree.map_structure(lambda *parts: np.concatenate(parts), *xs)
    return x, None if any(y is None for y in ys) else np.concatenate(ys)


def _batches(inputs: Any, count: int) -> Iterator[tuple[Any, Any]]:
    named = isinstance(inputs, (str, bytes, list, tuple, dict))
    if named or not np.iterable(inputs):
        raise no_inputs(inputs)
    for batch in inputs:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        if not are_arrays(x):
            raise no_inputs(x)
        x = first_samples(x, count)
        held = len(keras.tree.flatten(x)[0])
        single = keras.tree.is_nested(y) is False and are_arrays(y)
        yield x, first_samples(y, held) if single else None
        count -= held
        if count < 1:
            return
