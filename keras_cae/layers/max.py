"""Max pooling that can tell where each maximum stood, and the unpooling it allows."""

import itertools
import math
from typing import Any

import keras
from keras import ops

from keras_cae import _checks
from keras_cae.layers import _cells, _windows


@keras.saving.register_keras_serializable(package="keras_cae")
class MaxPooling(_windows.PoolingLayer):
    """Takes the maximum of each window, and its switch on request.

    One class for sequences, images and volumes. Padding never wins: with
    `padding="same"` the windows at the border see fewer cells; with "valid" cells
    behind the last whole window are dropped.

    The switch of a window is where in it the maximum stood: 0 for its first cell, then
    in reading order (`row * pool_width + column`). Of equal maxima the first counts.

    Args:
        pool_size: The window, in cells; an int, or one for each spatial axis.
        strides: The step from window to window, in cells. None means `pool_size`.
        padding: "same" (`ceil(size / stride)` windows) or "valid" (whole windows).
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        return_switches: Whether to return `(pooled, switches)`.
        **kwargs: As of `keras.layers.Layer`.

    Input shape:
        `(batch, *grid, channels)`, or `(batch, channels, *grid)`, with 1 to 3 spatial
        axes of any size, known or not.

    Output shape:
        The same with the pooled grid. Switches have that shape too, as int32.

    Raises:
        ValueError: An argument or the rank of the input breaks its rule, or a window
            with "valid" padding does not fit into the grid.

    Example:
        >>> import numpy as np
        >>> x = np.reshape([[1.0, 5.0, 2.0], [4.0, 3.0, 2.0]], (1, 2, 3, 1))
        >>> pooled, switches = MaxPooling(2, return_switches=True)(x)
        >>> np.squeeze(pooled).tolist(), np.squeeze(switches).tolist()
        ([5.0, 2.0], [1, 0])

    Reference:
        Zeiler, Taylor and Fergus (2011), [Adaptive deconvolutional networks for mid
        and high level feature learning](https://doi.org/10.1109/ICCV.2011.6126474).
    """

    def __init__(
        self,
        pool_size: _checks.Sizes = 2,
        strides: _checks.Sizes | None = None,
        padding: str = "same",
        data_format: str | None = None,
        return_switches: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        self.return_switches = _checks.flag("return_switches", return_switches)

    def call(self, x):
        windows = self.windows_for(x.shape)
        x = ops.cast(x, self.compute_dtype)
        if len(windows.axes) == 3:  # TensorFlow's CPU has no half precision there
            x = _cells.precise(x)
        padded = windows.pad(x, -float("inf"))
        pooled = ops.max_pool(
            padded, windows.pool_size, windows.strides, "valid", self.data_format
        )
        maxima = ops.cast(pooled, self.compute_dtype)
        if not self.return_switches:
            return maxima
        return maxima, _switches(windows, padded, pooled)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        shape = super().compute_output_shape(input_shape)
        return (shape, shape) if self.return_switches else shape

    def compute_output_spec(self, x):
        shape = super().compute_output_shape(x.shape)
        pooled = keras.KerasTensor(shape, self.compute_dtype)
        if not self.return_switches:
            return pooled
        return pooled, keras.KerasTensor(shape, "int32")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"return_switches": self.return_switches}


def _switches(windows: _windows.Windows, padded, pooled):
    """The place of the first maximum in each window."""
    switches = ops.zeros_like(pooled, dtype="int32")
    views = windows.views(padded, _windows.grid_of(pooled, windows.axes))
    for place, view in reversed(list(enumerate(views))):
        switches = ops.where(ops.equal(view, pooled), place, switches)
    return switches


@keras.saving.register_keras_serializable(package="keras_cae")
class MaxUnpooling(_windows.UnpoolingLayer):
    """Puts each value back where its switch says, zero everywhere else.

    The partner of `MaxPooling(..., return_switches=True)` with the same arguments:
    pooling its output again gives the pooled map, if no maximum was negative (a zero
    would win over it). Where windows overlap and several chose one cell, the value of
    the last window in reading order is written, and never added up.

    Called as `layer(x, switches=switches, like=None)`. `like` is a tensor or a shape
    whose grid is restored; without it the grid is that of whole strides
    (`size * stride`), or with "valid" padding that of whole windows.

    Args:
        pool_size: The window of the pooling, in cells.
        strides: Its step, in cells. None means `pool_size`.
        padding: Its padding, "same" or "valid".
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        **kwargs: As of `keras.layers.Layer`.

    Input shape:
        `(batch, *pooled grid, channels)`, or channels first; `switches` the same.

    Output shape:
        The same with the grid of `like`, or the one above.

    Raises:
        ValueError: There are no switches, or not of the shape of the input, or not of
            an integer type, or `like` does not pool to the grid of the input; or,
            outside of compiled functions, a switch is no place in the window.

    Example:
        >>> import numpy as np
        >>> x = np.reshape([[1.0, 5.0, 2.0], [4.0, 3.0, 2.0]], (1, 2, 3, 1))
        >>> pooled, switches = MaxPooling(2, return_switches=True)(x)
        >>> y = MaxUnpooling(2)(pooled, switches=switches, like=x)
        >>> np.squeeze(y).tolist()
        [[0.0, 5.0, 2.0], [0.0, 0.0, 0.0]]

    Reference:
        Zeiler, Taylor and Fergus (2011), [Adaptive deconvolutional networks for mid
        and high level feature learning](https://doi.org/10.1109/ICCV.2011.6126474).
    """

    def call(self, x, switches=None, like=None):
        windows = self.windows_for(x.shape)
        self._check_switches(x, switches)
        _check_places(switches, windows.pool_size)
        x = ops.cast(x, self.compute_dtype)
        pooled = _windows.grid_of(x, windows.axes)
        grid = windows.target(x, like)
        return windows.restore(_unpool(windows, x, switches), pooled, grid)

    def compute_output_spec(self, x, switches=None, like: Any = None):
        self._check_switches(x, switches)
        return super().compute_output_spec(x, like)

    def _check_switches(self, x, switches: Any) -> None:
        if switches is None:
            raise ValueError(
                "`switches` must be given: the second output of "
                "MaxPooling(..., return_switches=True). Received: switches=None"
            )
        if not hasattr(switches, "shape"):
            raise ValueError(
                f"`switches` must be a tensor. Received: switches={switches!r}"
            )
        if not _same_shape(x.shape, switches.shape):
            raise ValueError(
                "`switches` must have the shape of the input, one for each value. "
                f"Received: switches of shape {tuple(switches.shape)}, an input of "
                f"shape {tuple(x.shape)}"
            )
        dtype = keras.backend.standardize_dtype(switches.dtype)
        if "int" not in dtype:
            raise ValueError(
                f"`switches` must be integers. Received: switches of dtype {dtype}"
            )


def _check_places(switches, pool_size: tuple[int, ...]) -> None:
    """Whether every switch is a place in the window; in a graph values are unknown."""
    places = math.prod(pool_size)
    if keras.backend.backend() == "torch" and _is_compiling():
        return  # to ask would split the compiled function
    try:
        fit = bool(ops.all((switches >= 0) & (switches < places)))
    except (TypeError, RuntimeError):
        return
    if not fit:
        raise ValueError(
            "`switches` must be those of a pooling with the same `pool_size`: from 0 "
            f"to {places - 1} for {pool_size}. Received: switches from "
            f"{int(ops.min(switches))} to {int(ops.max(switches))}"
        )


def _is_compiling() -> bool:
    import torch

    return torch.compiler.is_compiling()


def _same_shape(first: Any, second: Any) -> bool:
    """Whether two shapes can be equal, None being any size."""
    return len(first) == len(second) and all(
        a == b or None in (a, b) for a, b in zip(first, second, strict=True)
    )


def _unpool(windows: _windows.Windows, x, switches):
    """Every value at the place of its switch, on the span of all windows.

    Cells with the same place modulo the stride are one phase: a map of the pooled
    grid, a little longer where windows overlap. The phases are then interleaved.
    """
    phases = [
        _phase(windows, phase, x, switches)
        for phase in itertools.product(*map(range, windows.strides))
    ]
    for axis, stride in reversed(list(zip(windows.axes, windows.strides, strict=True))):
        groups = [phases[i : i + stride] for i in range(0, len(phases), stride)]
        phases = [_windows.interleave(group, axis) for group in groups]
    return phases[0]


def _phase(windows: _windows.Windows, phase: tuple[int, ...], x, switches):
    """The cells of one phase; later windows are written over earlier ones."""
    reach, axes = windows.reach, windows.axes
    cells = None
    for steps in itertools.product(*(range(r, -1, -1) for r in reach)):
        place = _place(windows, phase, steps)
        if place is None:
            continue
        behind = [r - step for r, step in zip(reach, steps, strict=True)]
        chosen = _windows.pad(ops.equal(switches, place), axes, steps, behind, False)
        values = _windows.pad(x, axes, steps, behind)
        cells = ops.where(chosen, values, 0 if cells is None else cells)
    if cells is None:  # the windows leave these cells out
        cells = ops.zeros_like(_windows.pad(x, axes, [0] * len(axes), reach))
    return cells


def _place(
    windows: _windows.Windows, phase: tuple[int, ...], steps: tuple[int, ...]
) -> int | None:
    """The code of the cell `steps` strides and a phase into its window."""
    place = 0
    sizes = zip(phase, steps, windows.strides, windows.pool_size, strict=True)
    for start, step, stride, size in sizes:
        if start + step * stride >= size:
            return None
        place = place * size + start + step * stride
    return place
