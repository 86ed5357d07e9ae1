"""Keras' convolutions, fast with few filters and right with channels first."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cae.layers import _channels

_VECTOR = 16  # float32 numbers in the widest vectors of a CPU


class _Conv:
    """A convolution with stride 1 and "same" padding, with its bias or without."""

    def call(self: Any, inputs, biased: bool = True):
        kernel, data_format = self.kernel, self.data_format
        rows, *_, channels, filters = kernel.shape
        if rows > 1 and rows * filters <= _VECTOR <= channels:
            y = by_rows(inputs, kernel, data_format)
        else:
            y = ops.conv(inputs, kernel, 1, "same", data_format=data_format)
        bias = self.bias if biased else None
        if bias is not None and data_format == "channels_last":
            y = ops.add(y, bias)  # in this form it is one with the convolution
        else:
            y = _channels.add_bias(y, bias, data_format)
        return self.activation(y)


# Named as in Keras: files of weights name layers by their classes.


@keras.saving.register_keras_serializable(package="keras_cae")
class Conv1D(_Conv, keras.layers.Conv1D):
    """One spatial axis."""


@keras.saving.register_keras_serializable(package="keras_cae")
class Conv2D(_Conv, keras.layers.Conv2D):
    """Two spatial axes."""


@keras.saving.register_keras_serializable(package="keras_cae")
class Conv3D(_Conv, keras.layers.Conv3D):
    """Three spatial axes."""


def conv(rank: int, filters: int, kernel_size: Any, **kwargs: Any) -> Any:
    """The convolution for so many spatial axes; the map keeps its grid."""
    cls = (Conv1D, Conv2D, Conv3D)[rank - 1]
    return cls(filters, kernel_size, padding="same", **kwargs)


def by_rows(x, kernel, data_format: str):
    """A "same" convolution that gives every row of its kernel channels of its own.

    With zeros around the grid, along the first spatial axis
    `y[o] = sum_j z[j][o + j - (k - 1) // 2]`, where `z[j]` is `x` convolved with row j
    of the kernel along the other axes. All `z` are one convolution with k times the
    filters; a second one, with a 1 where a row j meets the channels of `z[j]`, moves
    them to their places and adds them up. That is as many multiply-adds, and a few for
    the second one. But output channels fill the vectors of a processor: with one filter
    a vector of 16 numbers does the work of one, with the three rows of three. What
    overflows in one filter is NaN in the others too, as 0 times infinity is.
    """
    rows, *others, channels, filters = kernel.shape
    kernel = ops.reshape(
        ops.moveaxis(kernel, 0, -2), (1, *others, channels, rows * filters)
    )
    z = ops.conv(x, kernel, 1, "same", data_format=data_format)
    places = np.eye(rows * filters).reshape(-1, rows, filters).swapaxes(0, 1)
    places = places.reshape(rows, *[1] * len(others), -1, filters)
    places = ops.convert_to_tensor(places, z.dtype)
    return ops.conv(z, places, 1, "same", data_format=data_format)
