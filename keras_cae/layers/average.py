"""Average pooling and its adjoint."""

import math
from typing import Any

import keras
from keras import ops

from keras_cae.layers import _cells, _windows


@keras.saving.register_keras_serializable(package="keras_cae")
class AveragePooling(_windows.PoolingLayer):
    """Takes the mean of each window.

    One class for sequences, images and volumes. Padding does not count: with
    `padding="same"` the windows at the border average the cells that they do cover;
    with "valid" cells behind the last whole window are dropped.

    Args:
        pool_size: The window, in cells; an int, or one for each spatial axis.
        strides: The step from window to window, in cells. None means `pool_size`.
        padding: "same" (`ceil(size / stride)` windows) or "valid" (whole windows).
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        **kwargs: As of `keras.layers.Layer`.

    Input shape:
        `(batch, *grid, channels)`, or `(batch, channels, *grid)`, with 1 to 3 spatial
        axes of any size, known or not.

    Output shape:
        The same with the pooled grid.

    Raises:
        ValueError: An argument or the rank of the input breaks its rule, or a window
            with "valid" padding does not fit into the grid.

    Example:
        >>> import numpy as np
        >>> x = np.reshape([1.0, 3.0, 5.0], (1, 3, 1))
        >>> np.squeeze(AveragePooling(2)(x)).tolist()
        [2.0, 5.0]

    Reference:
        LeCun et al. (1998), [Gradient-based learning applied to document
        recognition](https://doi.org/10.1109/5.726791), who scale and shift the mean.
    """

    def call(self, x):
        windows = self.windows_for(x.shape)
        grid = _windows.grid_of(x, windows.axes)
        pooled = ops.average_pool(
            windows.pad(_cells.precise(x)),
            windows.pool_size,
            windows.strides,
            "valid",
            self.data_format,
        )
        for share in shares(windows, pooled, grid):
            pooled = pooled / share
        return ops.cast(pooled, self.compute_dtype)


@keras.saving.register_keras_serializable(package="keras_cae")
class AverageUnpooling(_windows.UnpoolingLayer):
    """Spreads each value evenly over its window: the adjoint of average pooling.

    With the same arguments and `like=x`, `<pool(x), y> == <x, unpool(y)>` for all x
    and y, at the border too. Where windows overlap their shares add up. The sum over
    the grid is kept, so that a window of 2 x 2 spreads a quarter to each cell; the
    gradient of average pooling is the same map.

    Called as `layer(x, like=None)`. `like` is a tensor or a shape whose grid is
    restored; without it the grid is that of whole strides (`size * stride`), or with
    "valid" padding that of whole windows.

    Args:
        pool_size: The window of the pooling, in cells.
        strides: Its step, in cells. None means `pool_size`.
        padding: Its padding, "same" or "valid".
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        **kwargs: As of `keras.layers.Layer`.

    Input shape:
        `(batch, *pooled grid, channels)`, or channels first.

    Output shape:
        The same with the grid of `like`, or the one above.

    Raises:
        ValueError: An argument or the rank of the input breaks its rule, or `like`
            does not pool to the grid of the input.

    Example:
        >>> import numpy as np
        >>> x = np.reshape([2.0, 5.0], (1, 2, 1))
        >>> np.squeeze(AverageUnpooling(2)(x, like=(3,))).tolist()
        [1.0, 1.0, 5.0]

    Reference:
        Strang (2006), Linear Algebra and Its Applications, for the adjoint.
    """

    def call(self, x, like=None):
        windows = self.windows_for(x.shape)
        pooled = _windows.grid_of(x, windows.axes)
        grid = windows.target(x, like)
        spread = _cells.precise(x) / math.prod(windows.pool_size)
        for share in shares(windows, spread, grid):
            spread = spread / share
        for index in range(len(windows.axes)):
            spread = _spread(spread, windows, index)
        spread = windows.restore(spread, pooled, grid)
        return ops.cast(spread, self.compute_dtype)


def shares(windows: _windows.Windows, pooled, grid: Any):
    """Along each axis with a border, the share of each window that lies on the grid."""
    counts = _windows.grid_of(pooled, windows.axes)
    borders = zip(*windows.borders(grid, counts), strict=True)
    for index, (before, after) in enumerate(borders):
        if isinstance(before, int) and before + after == 0:
            continue
        starts = ops.arange(counts[index]) * windows.strides[index] - before
        ends = ops.minimum(starts + windows.pool_size[index], grid[index])
        covered = ops.cast(ends - ops.maximum(starts, 0), pooled.dtype)
        shape = [1] * len(pooled.shape)
        shape[windows.axes[index]] = -1
        yield ops.reshape(covered / windows.pool_size[index], shape)


def _spread(x, windows: _windows.Windows, index: int):
    """Every value copied to all cells of its window along one axis, and added up."""
    pool_size, stride = windows.pool_size[index], windows.strides[index]
    axis, reach = windows.axes[index], windows.reach[index]
    phases = []
    for phase in range(stride):
        steps = range(0, len(range(phase, pool_size, stride)))
        shifted = [_windows.pad(x, (axis,), (s,), (reach - s,)) for s in steps]
        zeros = ops.zeros_like(_windows.pad(x, (axis,), (0,), (reach,)))
        phases.append(sum(shifted[1:], shifted[0]) if shifted else zeros)
    return _windows.interleave(phases, axis)
