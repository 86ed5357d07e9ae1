"""The convolution back to the image, which has few filters."""

from typing import Any

import keras
import numpy as np
from keras import ops

_VECTOR = 16  # float32 numbers in the widest vectors of a CPU


class _FewFilters:
    """A Keras convolution that takes the faster of two equal forms."""

    def convolution_op(self: Any, inputs, kernel):
        rows = kernel.shape[0]
        if rows > 1 and rows * self.filters <= _VECTOR:
            return by_rows(inputs, kernel, self.data_format)
        return super().convolution_op(inputs, kernel)  # type: ignore[misc]


@keras.saving.register_keras_serializable(package="keras_cae")
class OutputConv1D(_FewFilters, keras.layers.Conv1D):
    """A convolution with stride 1 and "same" padding that is fast with few filters."""


@keras.saving.register_keras_serializable(package="keras_cae")
class OutputConv2D(_FewFilters, keras.layers.Conv2D):
    """A convolution with stride 1 and "same" padding that is fast with few filters."""


@keras.saving.register_keras_serializable(package="keras_cae")
class OutputConv3D(_FewFilters, keras.layers.Conv3D):
    """A convolution with stride 1 and "same" padding that is fast with few filters."""


def output_conv(rank: int) -> type[keras.layers.Layer]:
    """The class of the convolution for so many spatial axes."""
    return (OutputConv1D, OutputConv2D, OutputConv3D)[rank - 1]


def by_rows(x, kernel, data_format: str):
    """A "same" convolution that gives every row of its kernel channels of its own.

    With zeros around the grid, along the first spatial axis
    `y[o] = sum_j z[j][o + j - (k - 1) // 2]`, where `z[j]` is `x` convolved with row j
    of the kernel along the other axes. All `z` are one convolution with k times the
    filters; a second one, with a 1 where a row j meets the channels of `z[j]`, moves
    them to their places and adds them up. That is as many multiply-adds, and a few for
    the second one. But output channels fill the vectors of a processor: with one filter
    a vector of 16 numbers does the work of one, with the three rows of three.
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
