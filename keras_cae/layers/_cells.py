"""The windows of a pooling laid side by side, so that Keras' own poolings work on them.

Cells that several windows cover are repeated, cells that none covers are left out.
What is computed for a window can then be handed back to its cells, and their sum is an
average pooling, which is several times faster than adding up strided slices.
"""

import math

import keras
import numpy as np
from keras import ops

from keras_cae.layers import _windows


def precise(x):
    """`x` in float32, or in float64 where it is in that."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    return ops.cast(x, keras.backend.result_type(dtype, "float32"))


def apart(windows: _windows.Windows, x, border: float = 0.0):
    """The cells of all windows, side by side, with `border` around the grid."""
    counts = windows.pooled_grid(_windows.grid_of(x, windows.axes))
    x = windows.pad(x, border)
    for axis, count, size, stride in zip(
        windows.axes, counts, windows.pool_size, windows.strides, strict=True
    ):
        if size == stride:
            x = _windows.crop(x, (axis,), (0,), (count * size,))
            continue
        library = np if isinstance(count, int) else ops
        starts = library.reshape(library.arange(count) * stride, (-1, 1))
        places = library.reshape(starts + library.arange(size), (-1,))
        x = ops.take(x, places, axis=axis)
    return x


def spread(windows: _windows.Windows, pooled):
    """The value of each window, in all of its cells."""
    for axis, size in zip(windows.axes, windows.pool_size, strict=True):
        pooled = _windows.interleave([pooled] * size, axis)
    return pooled


def maxima(windows: _windows.Windows, cells, data_format: str):
    """The maximum of each window."""
    size = windows.pool_size
    return ops.max_pool(cells, size, size, "valid", data_format)


def sums(windows: _windows.Windows, cells, data_format: str):
    """The sum of each window."""
    size = windows.pool_size
    means = ops.average_pool(cells, size, size, "valid", data_format)
    return means * math.prod(size)
