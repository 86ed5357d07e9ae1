"""Pooling through a low-pass filter, which keeps what a shift of the input changes."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cae import _checks
from keras_cae.layers import _windows


class _FilterWindows(_windows.WindowLayer):
    """Windows as wide as the filter, which is one size for all axes."""

    def __init__(
        self,
        pool_size: _checks.Sizes = 2,
        strides: _checks.Sizes | None = None,
        padding: str = "same",
        data_format: str | None = None,
        filter_size: int = 3,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        if not _checks.is_int(filter_size) or not 1 <= filter_size <= 7:
            raise ValueError(
                "`filter_size` must be an int from 1 to 7. "
                f"Received: filter_size={filter_size!r}"
            )
        self.filter_size = int(filter_size)

    def windows_for(self, shape: Any) -> _windows.Windows:
        windows = super().windows_for(shape)
        filters = (self.filter_size,) * len(windows.axes)
        return dataclasses.replace(windows, pool_size=filters)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"filter_size": self.filter_size}


@keras.saving.register_keras_serializable(package="keras_cae")
class BlurPooling(_FilterWindows, _windows.PoolingLayer):
    """Blurs with a binomial filter, then keeps every `strides`-th cell.

    One class for sequences, images and volumes; channels stay apart. The filter takes
    away what the smaller grid cannot hold, so that a shift of the input moves the
    output little by little instead of changing it. A filter of 3 weighs a cell and
    its neighbours 1/4, 1/2, 1/4; one of 2 is the mean, one of 1 no blur at all.

    The filter never changes the size, even or odd: with `padding="same"` there are
    `ceil(size / stride)` cells, the border that the filters need is split evenly and
    an odd cell of it goes behind. The centre of an even filter lies between its two
    middle cells. With "valid" only filters that lie on the grid count.

    Constants stay constants, up to the border where that is "zero".

    Args:
        pool_size: The factor by which the grid shrinks, as the default of `strides`;
            an int, or one for each spatial axis. What a cell sees is `filter_size`.
        strides: The step from filter to filter, in cells. None means `pool_size`.
        padding: "same" (`ceil(size / stride)` filters) or "valid" (whole filters).
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        filter_size: The width of the filter along each axis, in cells, 1 to 7. One
            smaller than the step leaves cells out.
        border: What continues the grid: "reflect" mirrors it at its outer cells,
            "edge" repeats these, "zero" puts zeros.
        **kwargs: As of `keras.layers.Layer`.

    Input shape:
        `(batch, *grid, channels)`, or `(batch, channels, *grid)`, with 1 to 3 spatial
        axes of any size, known or not. A reflected border, of up to
        `filter_size // 2` cells, must not be wider than the grid; where the size is
        unknown, a wider one is mirrored to and fro.

    Output shape:
        The same with the pooled grid.

    Raises:
        ValueError: An argument or the rank of the input breaks its rule, a filter with
            "valid" padding does not fit into the grid, or a reflected border is wider
            than the grid.

    Example:
        >>> import numpy as np
        >>> x = np.reshape([0.0, 4.0, 0.0, 4.0, 8.0], (1, 5, 1))
        >>> np.squeeze(BlurPooling(2, border="edge")(x)).tolist()
        [1.0, 2.0, 7.0]

    Reference:
        Zhang (2019), [Making convolutional networks shift-invariant
        again](https://arxiv.org/abs/1904.11486). There the border is always half a
        filter, so that an even filter changes the size.
    """

    def __init__(
        self,
        pool_size: _checks.Sizes = 2,
        strides: _checks.Sizes | None = None,
        padding: str = "same",
        data_format: str | None = None,
        filter_size: int = 3,
        border: str = "reflect",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            pool_size, strides, padding, data_format, filter_size, **kwargs
        )
        self.border = _checks.choice("border", border, ("reflect", "edge", "zero"))

    def windows_for(self, shape: Any) -> _windows.Windows:
        windows = super().windows_for(shape)
        grid = tuple(shape[axis] for axis in windows.axes)
        least = min((n for n in grid if n is not None), default=self.filter_size)
        received = f"Received: filter_size={self.filter_size}, a grid of {grid}"
        if self.padding == "valid" and least < self.filter_size:
            raise ValueError(
                '`filter_size` must not be larger than the grid with padding="valid". '
                f"{received}"
            )
        reflects = self.padding == "same" and self.border == "reflect"
        if reflects and least < self.filter_size // 2:
            raise ValueError(
                '`border="reflect"`, of `filter_size // 2` cells, must not be wider '
                f'than the grid: use border="edge" or a smaller filter. {received}'
            )
        return windows

    def call(self, x):
        windows = self.windows_for(x.shape)
        # Sums of float16 would overflow before they are divided.
        wide = keras.backend.result_type(self.compute_dtype, "float32")
        x = self._bordered(ops.cast(x, wide), windows)
        return ops.cast(self._filtered(x, windows.strides), self.compute_dtype)

    def _filtered(self, x, strides: tuple[int, ...]):
        """The filter and the steps in one depthwise convolution, where there is one."""
        rank = len(strides)
        if rank == 3 or len(set(strides)) > 1:
            return self._averaged(x, strides)
        line, kernel = _binomial(self.filter_size), np.ones(())
        for _ in strides:
            kernel = np.multiply.outer(kernel, line)
        channels = x.shape[1 if self.data_format == "channels_first" else -1]
        kernel = np.repeat(kernel[..., None, None], channels, axis=-2)
        kernel = ops.cast(kernel, x.dtype)
        return ops.depthwise_conv(x, kernel, strides[0], "valid", self.data_format)

    def _averaged(self, x, strides: tuple[int, ...]):
        """The mean of two neighbours, again and again, is the binomial filter.

        On TensorFlow's CPU strided slices take ten times as long.
        """
        for _ in range(self.filter_size - 2):
            x = ops.average_pool(x, 2, 1, "valid", self.data_format)
        cells = min(self.filter_size, 2)
        return ops.average_pool(x, cells, strides, "valid", self.data_format)

    def _bordered(self, x, windows: _windows.Windows):
        """`x` with its border, so that every filter lies inside."""
        if self.border == "zero":
            return windows.pad(x)
        grid = _windows.grid_of(x, windows.axes)
        borders = windows.borders(grid, windows.pooled_grid(grid))
        sides = list(zip(windows.axes, grid, *borders, strict=True))
        if self.border == "reflect" and _are_inner(sides):
            widths: list[Any] = [(0, 0)] * len(x.shape)
            for axis, _, before, after in sides:
                widths[axis] = before, after
            return ops.pad(x, widths, mode="reflect")
        cells_of = _mirrored if self.border == "reflect" else _repeated
        for axis, size, *around in sides:
            if all(isinstance(width, int) and width == 0 for width in around):
                continue
            x = ops.take(x, cells_of(size, *around), axis=axis)
        return x

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"border": self.border}


def _binomial(filter_size: int) -> np.ndarray:
    """The weights of the filter along an axis, which add up to 1."""
    last = filter_size - 1
    return np.array([math.comb(last, cell) for cell in range(filter_size)]) / 2**last


def _are_inner(sides: list[Any]) -> bool:
    """Whether borders are known and short enough for what backends call reflection.

    PyTorch has it for few shapes only.
    """
    known = all(isinstance(size, int) for side in sides for size in side)
    inner = known and all(max(before, after) < n for _, n, before, after in sides)
    return inner and keras.backend.backend() != "torch"


def _repeated(size: Any, before: Any, after: Any):
    """The cells of a grid axis and its border, the outer ones repeated."""
    library = np if isinstance(size, int) else ops
    return library.clip(library.arange(-before, size + after), 0, size - 1)


def _mirrored(size: Any, before: Any, after: Any):
    """The cells of a grid axis and its border, mirrored at the outer ones."""
    library = np if isinstance(size, int) else ops
    cells = library.arange(-before, size + after)
    period = library.maximum(2 * (size - 1), 1)
    return library.minimum(cells % period, -cells % period)


@keras.saving.register_keras_serializable(package="keras_cae")
class MaxBlurPooling(BlurPooling):
    """Takes the maximum around every cell, then blurs and steps: max pooling made calm.

    One class for sequences, images and volumes; channels stay apart. Max pooling is a
    maximum at every cell of which most are thrown away; here a `BlurPooling` stands
    between the two. The maximum keeps the grid and padding never wins it, so that
    `strides`, `padding`, `filter_size` and `border` speak of the blur alone, and size
    and border are as there.

    Args:
        pool_size: The window of the maximum, in cells; an int, or one for each spatial
            axis. With an even one the odd cell lies behind.
        strides: The step from filter to filter, in cells. None means `pool_size`.
        padding: "same" (`ceil(size / stride)` filters) or "valid" (whole filters).
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        filter_size: The width of the filter along each axis, in cells, 1 to 7.
        border: What continues the maxima: "reflect" mirrors them at the outer cells,
            "edge" repeats these, "zero" puts zeros.
        **kwargs: As of `keras.layers.Layer`.

    Input shape:
        As of `BlurPooling`.

    Output shape:
        The same with the pooled grid.

    Raises:
        ValueError: As of `BlurPooling`.

    Example:
        >>> import numpy as np
        >>> x = np.reshape([0.0, 0.0, 8.0, 8.0, 0.0, 0.0], (1, 6, 1))
        >>> np.squeeze(MaxBlurPooling(2)(x)).tolist()
        [6.0, 6.0, 0.0]

    Reference:
        Zhang (2019), [Making convolutional networks shift-invariant
        again](https://arxiv.org/abs/1904.11486). There the maximum shortens the grid.
    """

    def call(self, x):
        windows = self.windows_for(x.shape)
        rank = len(windows.axes)
        window = _checks.per_axis("pool_size", self.pool_size, rank)
        around = _windows.Windows(window, (1,) * rank, "same", windows.axes)
        padded = around.pad(ops.cast(x, self.compute_dtype), -float("inf"))
        return super().call(ops.max_pool(padded, window, 1, "valid", self.data_format))


@keras.saving.register_keras_serializable(package="keras_cae")
class BlurUnpooling(_FilterWindows, _windows.UnpoolingLayer):
    """Gives each cell the weighted mean of the values whose filters saw it.

    The partner of `BlurPooling` and `MaxBlurPooling` with the same arguments. The
    weights are those of the filter: this is the adjoint of `BlurPooling(...,
    border="zero")`, divided by what that adjoint makes of ones. So with `like=x` and
    that divisor `d`, `<pool(x), y> == <x, d * unpool(y)>` for all x and y; away from
    the border that holds for every border. Constants stay constants, the range of the
    values is kept, and no checkerboard arises. With steps of 2 a filter of 2
    is nearest, one of 3 or 4 linear interpolation.

    Cells that no filter saw are zero: where the filter is smaller than the step, and
    behind the last filter with "valid" padding.

    Called as `layer(x, like=None)`. `like` is a tensor or a shape whose grid is
    restored; without it the grid is that of whole strides (`size * stride`), or with
    "valid" padding that of whole filters.

    Args:
        pool_size: The factor by which the grid grows, as the default of `strides`.
        strides: The step of the pooling, in cells. None means `pool_size`.
        padding: Its padding, "same" or "valid".
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        filter_size: The width of its filter, in cells, 1 to 7.
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
        >>> x = np.reshape([0.0, 4.0, 2.0], (1, 3, 1))
        >>> np.squeeze(BlurUnpooling(2)(x, like=(5,))).tolist()
        [0.0, 2.0, 4.0, 3.0, 2.0]

    Reference:
        Zhang (2019), [Making convolutional networks shift-invariant
        again](https://arxiv.org/abs/1904.11486), for the filter; Karras et al. (2019),
        [A style-based generator architecture](https://arxiv.org/abs/1812.04948), who
        grow grids through it.
    """

    def call(self, x, like=None):
        windows = self.windows_for(x.shape)
        pooled = _windows.grid_of(x, windows.axes)
        grid = windows.target(x, like)
        spread = ops.cast(x, self.compute_dtype)
        for index, axis in enumerate(windows.axes):
            ones = [1] * len(x.shape)
            ones[axis] = pooled[index]
            seen = _spread(ops.ones(ones, spread.dtype), windows, index)
            seen = ops.where(seen > 0, seen, ops.ones_like(seen))
            spread = _spread(spread, windows, index) / seen
        return windows.restore(spread, pooled, grid)


def _spread(x, windows: _windows.Windows, index: int):
    """Every value times the filter along one axis, and added up where they overlap."""
    size, stride = windows.pool_size[index], windows.strides[index]
    axis, reach = windows.axes[index], windows.reach[index]
    weights = _binomial(size).tolist()
    phases = []
    for phase in range(stride):
        shifted = [
            weight * _windows.pad(x, (axis,), (step,), (reach - step,))
            for step, weight in enumerate(weights[phase::stride])
        ]
        zeros = ops.zeros_like(_windows.pad(x, (axis,), (0,), (reach,)))
        phases.append(sum(shifted[1:], shifted[0]) if shifted else zeros)
    return _windows.interleave(phases, axis)
