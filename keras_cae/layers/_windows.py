"""Where the windows of a pooling stand on a grid, and back again.

"same" takes the sizes of TensorFlow and Keras: `ceil(size / stride)` windows, the
padding that they need is split evenly and an odd one goes behind. "valid" keeps whole
windows only. Sizes may be ints or, where a grid is unknown, scalar tensors.
"""

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cae import _checks


def spatial_axes(rank: int, data_format: str) -> tuple[int, ...]:
    """The axes of the grid in a tensor with `rank` of them."""
    first = 2 if data_format == "channels_first" else 1
    return tuple(range(first, first + rank))


def grid_of(x, axes: tuple[int, ...]) -> tuple[Any, ...]:
    """The sizes of the grid of a tensor; scalar tensors where they are unknown."""
    shape = ops.shape(x)
    return tuple(shape[axis] for axis in axes)


def with_grid(shape: Any, axes: tuple[int, ...], grid: Any) -> tuple[Any, ...]:
    """`shape` with another grid."""
    shape = list(shape)
    for axis, size in zip(axes, grid, strict=True):
        shape[axis] = size
    return tuple(shape)


def grid_like(like: Any, axes: tuple[int, ...]) -> tuple[Any, ...] | None:
    """The grid that `like` asks for: a tensor's, or a shape with or without the rest.

    Entries of None are sizes that the shape does not tell.
    """
    if like is None:
        return None
    rank = len(axes)
    is_shape = not hasattr(like, "shape")
    shape = tuple(like if is_shape and isinstance(like, Iterable) else ())
    shape = shape if is_shape else tuple(like.shape)
    grid = shape if is_shape and len(shape) == rank else None
    if grid is None and len(shape) == rank + 2:
        grid = tuple(shape[axis] for axis in axes)
    known = (v for v in grid or () if v is not None)
    if grid is None or not all(_checks.is_int(v) and v > 0 for v in known):
        what = f"like={like!r}" if is_shape else f"like of shape {shape}"
        raise ValueError(
            f"`like` must be a tensor with {rank} spatial axes or the shape of one, "
            f"every size positive. Received: {what}"
        )
    if is_shape:
        if None in grid:
            raise ValueError(
                "`like` as a shape must have known sizes; pass the tensor itself "
                f"where they are unknown. Received: like={like!r}"
            )
        return tuple(int(v) for v in grid)
    return grid


def asked_grid(like: Any, axes: tuple[int, ...]) -> tuple[Any, ...] | None:
    """As `grid_like`, with unknown sizes read from the tensor when it runs."""
    grid = grid_like(like, axes)
    return grid_of(like, axes) if grid is not None and None in grid else grid


def at_least_zero(size: Any) -> Any:
    """`max(size, 0)`, for ints and scalar tensors."""
    return max(size, 0) if isinstance(size, int) else ops.maximum(size, 0)


def crop(x, axes: tuple[int, ...], starts: Any, grid: Any):
    """The part of `x` with this grid that begins at `starts`."""
    known = all(isinstance(size, int) for size in (*starts, *grid))
    if known and tuple(grid) == tuple(x.shape[axis] for axis in axes):
        return x
    # Not x[...]: on TensorFlow's CPU the gradient of that takes ten times as long.
    corner = with_grid([0] * len(x.shape), axes, starts)
    return ops.slice(x, corner, with_grid(ops.shape(x), axes, grid))


def pad(x, axes: tuple[int, ...], before: Any, after: Any, value: float = 0.0):
    """`x` with a border of `value` around its grid; untouched where it has none."""
    widths: list[Any] = [(0, 0)] * len(x.shape)
    for axis, low, high in zip(axes, before, after, strict=True):
        widths[axis] = (low, high)
    if all(isinstance(v, int) and v == 0 for v in itertools.chain(*widths)):
        return x
    return ops.pad(x, widths, constant_values=value)


def fit(x, axes: tuple[int, ...], grid: Any):
    """`x` cut to a grid, evenly and at the end first; or its end repeated."""
    for axis, size in zip(axes, grid, strict=True):
        have = ops.shape(x)[axis]
        known = isinstance(have, int) and isinstance(size, int)
        if known and have >= size:
            x = crop(x, (axis,), ((have - size) // 2,), (size,))
            continue
        library = np if known else ops
        cells = library.arange(size) + at_least_zero(have - size) // 2
        x = ops.take(x, library.clip(cells, 0, have - 1), axis=axis)
    return x


def interleave(phases, axis: int):
    """Tensors of one shape, woven along an axis: a, b, a, b, ..."""
    if len(phases) == 1:
        return phases[0]
    woven = ops.stack(phases, axis=axis + 1)
    shape = list(ops.shape(phases[0]))
    shape[axis] = -1 if phases[0].shape[axis] is None else shape[axis] * len(phases)
    return ops.reshape(woven, shape)


def _phases(x, axis: int, count: Any, stride: int):
    """Every `stride`-th cell along an axis from each start: undoes `interleave`."""
    shape = list(ops.shape(x))
    shape[axis : axis + 1] = [count, stride]
    return ops.unstack(ops.reshape(x, shape), stride, axis=axis + 1)


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows of `pool_size` that step by `strides`, one entry a spatial axis."""

    pool_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str
    axes: tuple[int, ...]

    def pooled_grid(self, grid: Any) -> tuple[Any, ...]:
        """How many windows stand on a grid, None where its size is unknown."""
        return tuple(
            None if size is None else self._count(size, *window)
            for size, *window in zip(grid, self.pool_size, self.strides, strict=True)
        )

    def _count(self, size: Any, pool_size: int, stride: int) -> Any:
        if self.padding == "same":
            return (size + stride - 1) // stride
        if isinstance(size, int) and size < pool_size:
            raise ValueError(
                '`pool_size` must not be larger than the grid with padding="valid". '
                f"Received: pool_size={self.pool_size}, a grid axis of size {size}"
            )
        return (size - pool_size) // stride + 1

    def natural_grid(self, pooled: Any) -> tuple[Any, ...]:
        """The grid an unpooling fills when nobody asks for another one."""
        same = self.padding == "same"
        return tuple(
            None if n is None else n * s if same else (n - 1) * s + k
            for n, k, s in zip(pooled, self.pool_size, self.strides, strict=True)
        )

    def restored_grid(self, pooled: Any, like: Any) -> tuple[Any, ...]:
        """The grid that `like` asks for, if pooling it gives `pooled`."""
        asked = grid_like(like, self.axes)
        if asked is None:
            return self.natural_grid(pooled)
        for want, have in zip(self.pooled_grid(asked), pooled, strict=True):
            if want is not None and have is not None and want != have:
                raise ValueError(
                    "`like` must have a grid that pools to the grid of the input: "
                    f"{asked} pools to {self.pooled_grid(asked)}. "
                    f"Received: an input with grid {tuple(pooled)}"
                )
        return asked

    def target(self, x, like: Any) -> tuple[Any, ...]:
        """The grid to restore from the pooled tensor `x` while it runs."""
        self.restored_grid([x.shape[axis] for axis in self.axes], like)
        asked = asked_grid(like, self.axes)
        return self.natural_grid(grid_of(x, self.axes)) if asked is None else asked

    def borders(self, grid: Any, pooled: Any) -> tuple[list[Any], list[Any]]:
        """How far the windows reach over the grid, before and after it."""
        if self.padding == "valid":
            return [0] * len(self.axes), [0] * len(self.axes)
        sizes = zip(grid, pooled, self.pool_size, self.strides, strict=True)
        totals = [at_least_zero((n - 1) * s + k - size) for size, n, k, s in sizes]
        before = [total // 2 for total in totals]
        return before, [t - b for t, b in zip(totals, before, strict=True)]

    def pad(self, x, value: float = 0.0):
        """`x` with its border, so that every window lies inside."""
        grid = grid_of(x, self.axes)
        return pad(x, self.axes, *self.borders(grid, self.pooled_grid(grid)), value)

    def views(self, padded, pooled: Any):
        """For each place in the window, in reading order, its values in all windows.

        The grid is split into phases first: on TensorFlow's CPU slices that step take
        twenty times as long.
        """
        axes, strides = self.axes, self.strides
        counts = [n + r for n, r in zip(pooled, self.reach, strict=True)]
        span = [n * s for n, s in zip(counts, strides, strict=True)]
        have = grid_of(padded, axes)
        lacking = [at_least_zero(n - h) for n, h in zip(span, have, strict=True)]
        none = [0] * len(axes)
        phases = [crop(pad(padded, axes, none, lacking), axes, none, span)]
        for axis, count, stride in zip(axes, counts, strides, strict=True):
            phases = [p for x in phases for p in _phases(x, axis, count, stride)]
        for place in itertools.product(*map(range, self.pool_size)):
            steps, phase = np.divmod(place, strides)
            x = phases[np.ravel_multi_index(phase, strides)]
            yield crop(x, axes, steps.tolist(), pooled)

    @property
    def reach(self) -> tuple[int, ...]:
        """Over how many further strides a window reaches."""
        return tuple(
            (k - 1) // s for k, s in zip(self.pool_size, self.strides, strict=True)
        )

    def restore(self, spanned, pooled: Any, grid: Any):
        """The grid cut out of a tensor on which all windows were written.

        Only "valid" windows can leave cells behind the last one; these are zero.
        """
        starts, _ = self.borders(grid, pooled)
        if self.padding == "valid":
            written = grid_of(spanned, self.axes)
            lacking = [at_least_zero(n - w) for n, w in zip(grid, written, strict=True)]
            spanned = pad(spanned, self.axes, starts, lacking)
        return crop(spanned, self.axes, starts, grid)


class WindowLayer(keras.layers.Layer):
    """The arguments that poolings and their partners share: checked, kept, saved."""

    def __init__(
        self,
        pool_size: _checks.Sizes = 2,
        strides: _checks.Sizes | None = None,
        padding: str = "same",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pool_size = _checks.sizes("pool_size", pool_size)
        self.strides = None if strides is None else _checks.sizes("strides", strides)
        self.padding = _checks.choice("padding", padding, ("same", "valid"))
        self.data_format = _checks.data_format(data_format)

    def build(self, input_shape: Any) -> None:
        self.windows_for(input_shape)
        self.input_spec = keras.layers.InputSpec(ndim=len(input_shape))

    def windows_for(self, shape: Any) -> Windows:
        """The windows on an input of this shape, one entry a spatial axis."""
        rank = _checks.spatial_rank(self.name, shape)
        strides = self.pool_size if self.strides is None else self.strides
        return Windows(
            _checks.per_axis("pool_size", self.pool_size, rank),
            _checks.per_axis("strides", strides, rank),
            self.padding,
            spatial_axes(rank, self.data_format),
        )

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
        }


class PoolingLayer(WindowLayer):
    """A pooling: every window becomes one cell, channels stay."""

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        windows = self.windows_for(input_shape)
        grid = windows.pooled_grid([input_shape[axis] for axis in windows.axes])
        return with_grid(input_shape, windows.axes, grid)


class UnpoolingLayer(WindowLayer):
    """A partner: every cell becomes a window, on the grid of `like`."""

    def compute_output_shape(
        self, input_shape: Any, like: Any = None
    ) -> tuple[Any, ...]:
        windows = self.windows_for(input_shape)
        pooled = [input_shape[axis] for axis in windows.axes]
        grid = windows.restored_grid(pooled, like)
        return with_grid(input_shape, windows.axes, grid)

    def compute_output_spec(self, x, like: Any = None):
        shape = self.compute_output_shape(x.shape, like)
        return keras.KerasTensor(shape, self.compute_dtype)
