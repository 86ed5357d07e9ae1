"""The few samples that a callback looks at, from whatever holds them."""

from typing import Any

import keras
import numpy as np


def first_samples(inputs: Any, count: int) -> Any:
    """The first samples of an array, a nest of arrays, or a data set's first batch."""
    if not are_arrays(inputs):
        inputs = keras.utils.unpack_x_y_sample_weight(_first_batch(inputs))[0]
    if not are_arrays(inputs):
        raise no_inputs(inputs)
    counts = {x.shape[0] for x in keras.tree.flatten(inputs)}
    if len(counts) > 1 or 0 in counts:
        raise ValueError(
            "`inputs` must hold at least one sample, and each array as many as the "
            f"others. Received: inputs of shape {shapes(inputs)}"
        )
    return keras.tree.map_structure(lambda x: _array(x[:count]), inputs)


def are_arrays(inputs: Any) -> bool:
    """Whether this is an array or a nest of arrays, and no data set."""
    leaves = keras.tree.flatten(inputs)
    return bool(leaves) and all(len(getattr(x, "shape", ())) > 0 for x in leaves)


def _first_batch(inputs: Any) -> Any:
    if isinstance(inputs, (str, bytes, list, tuple, dict)) or not np.iterable(inputs):
        raise no_inputs(inputs)
    try:
        return next(iter(inputs))
    except StopIteration:
        raise ValueError(
            "`inputs` must hold at least one sample. Received: a data set without a "
            "batch"
        ) from None


def no_inputs(inputs: Any) -> ValueError:
    """The error for what holds no samples at all."""
    return ValueError(
        "`inputs` must be an array, a nest of arrays or a data set of batches. "
        f"Received: inputs of type {type(inputs).__name__}"
    )


def _array(x: Any) -> Any:
    x = keras.ops.convert_to_numpy(x) if keras.ops.is_tensor(x) else np.array(x)
    return x.astype(keras.config.floatx()) if x.dtype.kind == "f" else x


def shapes(inputs: Any) -> Any:
    """The shape of an array, or a list of those in a nest."""
    found = [tuple(x.shape) for x in keras.tree.flatten(inputs)]
    return found[0] if len(found) == 1 else found
