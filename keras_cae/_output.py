"""The convolution back to the image, which has few filters."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cae.layers import _channels, _windows

_MOST = 4  # filters


def _pays(conv: Any) -> bool:
    """Whether `by_phases` is the faster form: on TensorFlow's CPU, for few filters."""
    taps = conv.kernel_size
    few = conv.filters <= _MOST and max(taps) > 1 and all(size % 2 for size in taps)
    last = conv.data_format == "channels_last"
    return few and last and keras.backend.backend() == "tensorflow"


@keras.saving.register_keras_serializable(package="keras_cae")
class OutputConv2D(keras.layers.Conv2D):
    """A convolution with stride 1 and "same" padding that is fast with few filters."""

    def call(self, inputs):
        if not _pays(self):
            return super().call(inputs)
        return self.activation(by_phases(inputs, self.kernel, self.bias))


@keras.saving.register_keras_serializable(package="keras_cae")
class OutputConv3D(keras.layers.Conv3D):
    """A convolution with stride 1 and "same" padding that is fast with few filters."""

    def call(self, inputs):
        if not _pays(self):
            return super().call(inputs)
        return self.activation(by_phases(inputs, self.kernel, self.bias))


def output_conv(rank: int) -> type[keras.layers.Layer]:
    """The class of the convolution for so many spatial axes."""
    return (keras.layers.Conv1D, OutputConv2D, OutputConv3D)[rank - 1]


def by_phases(x, kernel, bias):
    """A "same" convolution as one with stride 2 that computes all cells in between.

    With k taps, k odd, and zeros around the grid, along one axis
    `y[o] = sum_j kernel[j] * x[o + j - (k - 1) / 2]`. For the outputs `o = 2 * m + r`,
    with `0 <= r < 2`, these are the taps `t = j + r` of `x[2 * m + t - (k - 1) / 2]`:
    a convolution with stride 2, of k + 1 taps, that gives every phase r channels of its
    own; "same" pads it by `(k - 1) / 2` in front for even and odd grids. Then the
    phases are made cells. It takes `(k + 1) / k` times the multiply-adds an axis, but
    a processor's vectors of 16 numbers, which hold output channels, are fuller.
    """
    *taps, channels, filters = kernel.shape
    rank = len(taps)
    chosen = np.ones((1, 1), "float32")
    for count in taps:
        chosen = np.kron(chosen, _taps_of_phases(count))
    kernel = ops.matmul(chosen, ops.reshape(kernel, (math.prod(taps), -1)))
    sizes = [size for count in taps for size in (count + 1, 2)]
    kernel = ops.reshape(kernel, (*sizes, channels, filters))
    order = (*range(0, 2 * rank, 2), 2 * rank, *range(1, 2 * rank, 2), 2 * rank + 1)
    kernel = ops.transpose(kernel, order)
    kernel = ops.reshape(kernel, (*sizes[::2], channels, 2**rank * filters))
    kernel = ops.cast(kernel, x.dtype)
    y = ops.conv(x, kernel, 2, "same", data_format="channels_last")
    y = ops.add(y, ops.tile(bias, 2**rank))
    axes = _windows.spatial_axes(rank, "channels_last")
    for axis in axes:
        y = _channels.out_of_channels(y, axis, 2, rank + 1)
    return _windows.crop(y, axes, (0,) * rank, _windows.grid_of(x, axes))


def _taps_of_phases(kernel_size: int) -> np.ndarray:
    """Row `2 * t + r`: the tap of the kernel that is tap t of phase r, if one is."""
    tap, phase, of_kernel = np.indices((kernel_size + 1, 2, kernel_size))
    return (tap == of_kernel + phase).reshape(-1, kernel_size).astype("float32")
