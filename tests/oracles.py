"""What the layers should give, in plain NumPy loops, and cases to ask it for.

Everything here works on channels-last arrays; `Case.run` brings them to the format of
the layer and back.
"""

import dataclasses

import keras
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

DATA_FORMATS = ("channels_last", "channels_first")


def many(count):
    """Cheap cases, the same in every run; JAX compiles for every new shape."""
    on_jax = keras.backend.backend() == "jax"
    return settings(max_examples=count // 20 if on_jax else count, derandomize=True)


def in_format(x, data_format):
    """A channels-last array in a data format."""
    return np.moveaxis(x, -1, 1) if data_format == "channels_first" else x


def from_format(x, data_format):
    """A tensor of a data format as a channels-last array."""
    x = keras.ops.convert_to_numpy(x)
    return np.moveaxis(x, 1, -1) if data_format == "channels_first" else x


@dataclasses.dataclass(frozen=True)
class Case:
    """A grid, windows on it, a data format, and a seed of numbers."""

    grid: tuple[int, ...]
    pool_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str = "same"
    data_format: str = "channels_last"
    seed: int = 0

    @property
    def settings(self):
        return {
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
        }

    @property
    def pooled_grid(self):
        return tuple(len(starts) for starts in self._starts())

    @property
    def natural_grid(self):
        """The smallest grid of whole strides, or of whole windows."""
        sizes = zip(self.pooled_grid, self.pool_size, self.strides, strict=True)
        if self.padding == "same":
            return tuple(n * s for n, _, s in sizes)
        return tuple((n - 1) * s + k for n, k, s in sizes)

    def on(self, grid):
        return dataclasses.replace(self, grid=tuple(grid))

    def numbers(self, grid=None, channels=2):
        """A batch with many ties, zeros and negative values, exact in any order."""
        rng = np.random.default_rng(self.seed)
        shape = (2, *(self.grid if grid is None else grid), channels)
        return rng.integers(-4, 5, size=shape).astype("float32")

    def run(self, layer, x, switches=None, like=None):
        """The layer on channels-last arrays; `like` as a tensor or a shape."""
        given = {}
        if switches is not None:
            given["switches"] = in_format(switches, self.data_format)
        if like is not None:
            is_array = isinstance(like, np.ndarray)
            given["like"] = in_format(like, self.data_format) if is_array else like
        y = layer(in_format(x, self.data_format), **given)
        if isinstance(y, (tuple, list)):
            return tuple(from_format(part, self.data_format) for part in y)
        return from_format(y, self.data_format)

    def _starts(self):
        """Along each axis the first cell of each window; negative in the border."""
        for size, k, s in zip(self.grid, self.pool_size, self.strides, strict=True):
            if self.padding == "valid":
                yield range(0, size - k + 1, s)
            else:
                count = -(-size // s)
                border = max((count - 1) * s + k - size, 0)
                yield range(-(border // 2), -(border // 2) + count * s, s)

    def windows(self):
        """In reading order: the index, the first cell, the cells on the grid."""
        starts = [list(axis) for axis in self._starts()]
        for index in np.ndindex(*self.pooled_grid):
            first = [axis[i] for axis, i in zip(starts, index, strict=True)]
            sizes = zip(first, self.pool_size, self.grid, strict=True)
            yield (
                index,
                first,
                tuple(slice(max(f, 0), min(f + k, n)) for f, k, n in sizes),
            )


@st.composite
def cases(draw, ranks=(1, 2, 3), paddings=("same", "valid")):
    """One axis with 1 to 65 cells, windows of 1 to 5, strides of 1 to 4; others small.

    Windows overlap, leave gaps, and reach over the grid on both sides.
    """
    rank = draw(st.sampled_from(ranks))
    long = draw(st.integers(0, rank - 1))
    padding = draw(st.sampled_from(paddings))
    grid, pool_size, strides = [], [], []
    for axis in range(rank):
        pool_size.append(draw(st.integers(1, 5 if axis == long else 4 - rank)))
        strides.append(draw(st.integers(1, 4 if axis == long else 2)))
        least = pool_size[-1] if padding == "valid" else 1
        grid.append(draw(st.integers(least, 65 if axis == long else 4)))
    data_format = draw(st.sampled_from(DATA_FORMATS))
    seed = draw(st.integers(0, 999))
    return Case(
        tuple(grid), tuple(pool_size), tuple(strides), padding, data_format, seed
    )


def max_pool(case, x):
    """The maxima and their switches; of equal maxima the first counts."""
    pooled = np.empty((len(x), *case.pooled_grid, x.shape[-1]), x.dtype)
    switches = np.empty(pooled.shape, "int32")
    for index, first, cells in case.windows():
        for b, c in np.ndindex(len(x), x.shape[-1]):
            view = x[(b, *cells, c)]
            places = np.unravel_index(np.argmax(view), view.shape)
            code = 0
            for place, cell, f, k in zip(
                places, cells, first, case.pool_size, strict=True
            ):
                code = code * k + int(place) + cell.start - f
            pooled[(b, *index, c)] = view[places]
            switches[(b, *index, c)] = code
    return pooled, switches


def max_unpool(case, pooled, switches):
    """Each value at its switch, later windows over earlier ones, none off the grid."""
    y = np.zeros((len(pooled), *case.grid, pooled.shape[-1]), pooled.dtype)
    for index, first, _ in case.windows():
        for b, c in np.ndindex(len(pooled), pooled.shape[-1]):
            places = np.unravel_index(switches[(b, *index, c)], case.pool_size)
            cell = [int(p) + f for p, f in zip(places, first, strict=True)]
            if all(0 <= at < n for at, n in zip(cell, case.grid, strict=True)):
                y[(b, *cell, c)] = pooled[(b, *index, c)]
    return y


def average_pool(case, x):
    """The mean of the cells that each window covers."""
    y = np.empty((len(x), *case.pooled_grid, x.shape[-1]))
    for index, _, cells in case.windows():
        view = x[(slice(None), *cells)].astype("float64")
        y[(slice(None), *index)] = view.reshape(len(x), -1, x.shape[-1]).mean(1)
    return y


def conv(case, x, kernel):
    """A convolution that steps by its strides, zeros around the border."""
    y = np.zeros((len(x), *case.pooled_grid, kernel.shape[-1]))
    for index, first, cells in case.windows():
        weights = kernel[_inside(first, cells)]
        y[(slice(None), *index)] = np.tensordot(
            x[(slice(None), *cells)], weights, axes=weights.ndim - 1
        )
    return y


def transposed_conv(case, x, kernel):
    """Every value times the kernel, added up on the grid."""
    y = np.zeros((len(x), *case.grid, kernel.shape[-2]))
    for index, first, cells in case.windows():
        weights = kernel[_inside(first, cells)]
        y[(slice(None), *cells)] += np.tensordot(
            x[(slice(None), *index)], weights, axes=(1, weights.ndim - 1)
        )
    return y


def _inside(first, cells):
    """The part of a window that lies on the grid, in cells of the window."""
    return tuple(
        slice(c.start - f, c.stop - f) for c, f in zip(cells, first, strict=True)
    )


def resize(x, factors, interpolation):
    """Upsampling of every axis of the grid, pixel centres being points."""
    for axis, factor in enumerate(factors, 1):
        size = x.shape[axis]
        if interpolation == "nearest":
            x = np.take(x, np.arange(size * factor) // factor, axis)
        else:
            points = (np.arange(size * factor) + 0.5) / factor - 0.5
            x = np.apply_along_axis(
                lambda line, points=points: np.interp(
                    points, np.arange(len(line)), line
                ),
                axis,
                x,
            )
    return x
