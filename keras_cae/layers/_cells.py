"""The cells of windows, for poolings that weigh each of them."""

import keras
from keras import ops

from keras_cae.layers import _windows


def precise(x):
    """`x` in float32, or in float64 where it is in that."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    return x if dtype == "float64" else ops.cast(x, "float32")


def of_windows(windows: _windows.Windows, x, border: float = 0.0):
    """The first cells of all windows, then their second cells, and so on."""
    pooled = windows.pooled_grid(_windows.grid_of(x, windows.axes))
    return list(windows.views(windows.pad(x, border), pooled))


def total(cells: list):
    """The sum over each window."""
    return sum(cells[1:], cells[0])


def maximum(cells: list):
    """The maximum over each window, a number that gradients pass by."""
    largest = cells[0]
    for cell in cells[1:]:
        largest = ops.maximum(largest, cell)
    return ops.stop_gradient(largest)
