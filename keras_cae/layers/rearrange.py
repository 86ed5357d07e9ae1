"""Cells as channels and back: pooling that loses nothing."""

import math
from typing import Any

import keras
from keras import ops

from keras_cae import _checks
from keras_cae.layers import _channels, _windows


class _Tiles(_windows.WindowLayer):
    """Windows side by side, whose cells are blocks of channels."""

    def __init__(
        self,
        pool_size: _checks.Sizes = 2,
        strides: _checks.Sizes | None = None,
        padding: str = "same",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        if self.strides not in (None, self.pool_size):
            raise ValueError(
                "`strides` must be None or equal to `pool_size`: the windows stand "
                f"side by side. Received: strides={strides!r}, pool_size={pool_size!r}"
            )

    def _with_channels(self, shape: Any, times: int = 1, over: int = 1):
        """`shape` with `times` as many channels, or one in `over`."""
        axis = _channels.axis_in(len(shape), self.data_format)
        count = None if shape[axis] is None else shape[axis] * times // over
        return _windows.with_grid(shape, (axis,), (count,))


@keras.saving.register_keras_serializable(package="keras_cae")
class SpaceToDepth(_Tiles, _windows.PoolingLayer):
    """Makes the cells of each window channels, so that nothing is lost.

    One class for sequences, images and volumes. The channels are ordered by cell, in
    reading order, then by input channel: those of the first cell come first, as in
    `tf.nn.space_to_depth`. Mixes no values.

    Where the windows do not divide the grid, `padding="same"` fills the last ones with
    zeros, evenly in front and behind, an odd one behind; `DepthToSpace` cuts them off
    again. "valid" drops the cells behind the last whole window: these are lost.

    Args:
        pool_size: The window, in cells; an int, or one for each spatial axis.
        strides: None or `pool_size`; windows stand side by side.
        padding: "same" (`ceil(size / pool_size)` windows) or "valid" (whole windows).
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        **kwargs: As of `keras.layers.Layer`.

    Input shape:
        `(batch, *grid, channels)`, or `(batch, channels, *grid)`, with 1 to 3 spatial
        axes of any size, known or not.

    Output shape:
        The same with the pooled grid and as many times the channels as a window has
        cells.

    Raises:
        ValueError: An argument or the rank of the input breaks its rule, or a window
            with "valid" padding does not fit into the grid.

    Example:
        >>> import numpy as np
        >>> x = np.reshape([1.0, 2.0, 3.0], (1, 3, 1))
        >>> np.squeeze(SpaceToDepth(2)(x)).tolist()
        [[1.0, 2.0], [3.0, 0.0]]

    Reference:
        Shi et al. (2016), [Real-time single image and video super-resolution using an
        efficient sub-pixel convolutional neural network](https://arxiv.org/abs/1609.05158),
        for its inverse.
    """

    def call(self, x):
        windows = self.windows_for(x.shape)
        grid = _windows.grid_of(x, windows.axes)
        x = ops.cast(x, self.compute_dtype)
        if self.padding == "valid":
            cells = windows.natural_grid(windows.pooled_grid(grid))
            x = _windows.crop(x, windows.axes, [0] * len(grid), cells)
        x = windows.pad(x)
        channels = _channels.axis_in(len(x.shape), self.data_format)
        tiles = list(zip(windows.axes, windows.pool_size, strict=True))
        for axis, size in reversed(tiles):
            x = _channels.into_channels(x, axis, size, channels)
        return x

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        cells = math.prod(self.windows_for(input_shape).pool_size)
        shape = super().compute_output_shape(input_shape)
        return self._with_channels(shape, times=cells)


@keras.saving.register_keras_serializable(package="keras_cae")
class DepthToSpace(_Tiles, _windows.UnpoolingLayer):
    """Makes blocks of channels the cells of windows: undoes `SpaceToDepth`.

    With the same arguments and `like=x`, `unpool(pool(x)) == x` exactly, also where
    the windows do not divide the grid. The channels are ordered by cell, in reading
    order, then by output channel, as in `tf.nn.depth_to_space`. With "valid" padding
    cells behind the last whole window are zero.

    Called as `layer(x, like=None)`. `like` is a tensor or a shape whose grid is
    restored; without it the grid is that of whole windows.

    Args:
        pool_size: The window of the pooling, in cells.
        strides: None or `pool_size`; windows stand side by side.
        padding: Its padding, "same" or "valid".
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        **kwargs: As of `keras.layers.Layer`.

    Input shape:
        `(batch, *pooled grid, channels)`, or channels first; a known number of
        channels, a multiple of the cells of a window.

    Output shape:
        The same with the grid of `like`, or the one above, and the channels divided by
        the cells of a window.

    Raises:
        ValueError: An argument, the rank or the channels of the input break their
            rule, or `like` does not pool to the grid of the input.

    Example:
        >>> import numpy as np
        >>> x = np.reshape([1.0, 2.0, 3.0, 0.0], (1, 2, 2))
        >>> np.squeeze(DepthToSpace(2)(x, like=(3,))).tolist()
        [1.0, 2.0, 3.0]

    Reference:
        Shi et al. (2016), [Real-time single image and video super-resolution using an
        efficient sub-pixel convolutional neural network](https://arxiv.org/abs/1609.05158).
    """

    def windows_for(self, shape: Any) -> _windows.Windows:
        windows = super().windows_for(shape)
        channels = _checks.channels(self.name, shape, self.data_format)
        if channels % math.prod(windows.pool_size):
            raise ValueError(
                "The channels of the input must be a multiple of the cells of a window "
                f"(`pool_size`). Received: {channels} channels, "
                f"pool_size={windows.pool_size}"
            )
        return windows

    def call(self, x, like=None):
        windows = self.windows_for(x.shape)
        pooled = _windows.grid_of(x, windows.axes)
        grid = windows.target(x, like)
        channels = _channels.axis_in(len(x.shape), self.data_format)
        x = ops.cast(x, self.compute_dtype)
        for axis, size in zip(windows.axes, windows.pool_size, strict=True):
            x = _channels.out_of_channels(x, axis, size, channels)
        return windows.restore(x, pooled, grid)

    def compute_output_shape(
        self, input_shape: Any, like: Any = None
    ) -> tuple[Any, ...]:
        cells = math.prod(self.windows_for(input_shape).pool_size)
        shape = super().compute_output_shape(input_shape, like)
        return self._with_channels(shape, over=cells)
