"""What a pooling keeps and what it throws away, in numbers.

Maps are arrays `(samples, *grid, channels)`. Each function returns a float; NaN where
the maps hold something that is no finite number. `docs/callbacks.md` has the formulas.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

ABOUT = {
    "energy_kept": "Share of the energy before pooling that the pooled maps explain.",
    "dead_channels": "Share of channels that are the same everywhere.",
    "sparsity": "0: all values are of one size; 1: all but one value are zero.",
    "effective_channels": "How many channels vary on their own, of all.",
    "shift_consistency": "How well the maps move along with the image; 1: exactly.",
    "aliasing": "Share of energy too fine for the pooled grid, seen as something else.",
}


def energy_kept(before: Any, after: Any) -> float:
    """The share of the energy of `before` that the pooled values, spread out, explain.

    Spread over the grid (nearest up-sampling) and scaled by the best factor of each
    channel. 1 for a constant, 0 for a grating that averages out. Both need the same
    channels.

    Reference:
        Mallat (1989), [A theory for multiresolution signal decomposition: the wavelet
        representation](https://doi.org/10.1109/34.192463), for the energy of an
        approximation.
    """
    before, spread = _exact(before), _exact(after)
    for axis, stride in enumerate(steps(before.shape[1:-1], after.shape[1:-1]), 1):
        cells = np.arange(before.shape[axis]) // stride
        spread = spread.take(np.minimum(cells, spread.shape[axis] - 1), axis)
    over = tuple(range(before.ndim - 1))
    scale, energy = np.sum(spread**2, over), np.sum(before**2, over)
    explained = np.sum(before * spread, over) ** 2 / np.where(scale == 0, 1, scale)
    return _share(explained.sum(), energy.sum(), empty=1.0)


def dead_channels(maps: Any) -> float:
    """The share of channels that are the same everywhere, in all samples.

    Such a channel tells nothing; behind a ReLU it is mostly zero. Values that are no
    finite numbers do not count as different.

    Reference:
        Lu, Shin, Su and Karniadakis (2020), [Dying ReLU and initialization: theory and
        numerical examples](https://doi.org/10.4208/cicp.OA-2020-0165).
    """
    low, high = channel_ranges(maps)
    return float(np.mean(~varies(low, high)))


def sparsity(maps: Any) -> float:
    """How few values hold the energy: 0 where all are equal, 1 where only one is not 0.

    Reference:
        Hoyer (2004), [Non-negative matrix factorization with sparseness
        constraints](https://www.jmlr.org/papers/v5/hoyer04a.html), section 3.1.
    """
    values = abs(_exact(maps)).ravel()
    norm, root = np.sqrt(np.sum(values**2)), np.sqrt(values.size)
    if norm == 0 or root == 1:
        return 1.0
    return float(np.clip((root - values.sum() / norm) / (root - 1), 0, 1))


def effective_channels(maps: Any) -> float:
    """How many channels do different things: the participation ratio.

    Of the eigenvalues of the channels' covariance over samples and cells, the square of
    the sum by the sum of the squares. The number of channels, where they are
    uncorrelated and equally strong; 1 where all follow one; 0 where nothing varies.

    Reference:
        Gao, Trautmann, Yu, Santhanam, Ryu, Shenoy and Ganguli (2017), [A theory of
        multineuronal dimensionality, dynamics and measurement
        ](https://doi.org/10.1101/214262).
    """
    values = _centred(_exact(maps).reshape(-1, maps.shape[-1]), 0)
    # Both products have the same eigenvalues but for zeros; the smaller one is taken.
    few = values if len(values) < values.shape[1] else values.T
    squares = np.sum((few @ few.T) ** 2)
    return _share(np.sum(values**2) ** 2, squares, empty=0.0)


def shift_consistency(maps: Any, moved: Any, strides: Sequence[int]) -> float:
    """How far the maps of a moved image are the moved maps of the image: 1 to -1.

    The image moved by one cell along each axis, so that its maps should move by a
    fraction, `1 / stride`, of a cell; that is a change of phase in their spectrum. Both
    are compared without their means and without the outer quarters, where the border
    tells. A grating below the new Nyquist frequency gives 1; one above, which runs
    backwards in the pooled map, -1.

    Args:
        maps: The maps of an image.
        moved: Those of the image moved by one cell towards higher indices.
        strides: How many cells of the image a cell of the maps stands for.

    Reference:
        Zhang (2019), [Making convolutional networks shift-invariant again
        ](https://proceedings.mlr.press/v97/zhang19a.html), section 4.2; Azulay and
        Weiss (2019), [Why do deep convolutional networks generalize so poorly to small
        image transformations?](https://www.jmlr.org/papers/v20/19-519.html)
    """
    expected, moved = _exact(maps), _exact(moved)
    for axis, stride in enumerate(strides, 1):
        expected = _move(expected, 1 / stride, axis)
    axes = tuple(range(1, maps.ndim - 1))
    expected, moved = (_centred(_inner(x), axes) for x in (expected, moved))
    both = np.sum(expected**2) + np.sum(moved**2)
    return _share(2 * np.sum(expected * moved), both, empty=1.0)


def aliasing(dense: Any, strides: Sequence[int]) -> float:
    """The share of energy that a pooling folds back from above its Nyquist frequency.

    A pooling is a layer without a stride, which gives `dense` maps, of which every
    `stride`-th cell is kept. What varies faster than `1 / (2 * stride)` cycles a cell
    comes out as a slower grating that is not in the image. The mean does not count.

    Args:
        dense: What the pooling gives with a stride of 1.
        strides: Its stride along each axis.

    Reference:
        Zhang (2019), as above; Shannon (1949), [Communication in the presence of
        noise](https://doi.org/10.1109/JRPROC.1949.232969).
    """
    axes = tuple(range(1, dense.ndim - 1))
    # Single precision is exact enough here, and several times faster.
    low = dense = _centred(_exact(dense), axes).astype("float32")
    for axis, stride in zip(axes, strides, strict=True):
        low = _below_nyquist(low, stride, axis)
    shown = _share(_energy(low), _energy(dense), empty=1.0)
    return float(np.maximum(1 - shown, 0))


def channel_ranges(maps: Any) -> tuple[Any, Any]:
    """The lowest and highest finite value of each channel; infinite where none is."""
    over = {"axis": tuple(range(maps.ndim - 1)), "where": np.isfinite(maps)}
    maps = maps.astype("float64", copy=False)
    return np.min(maps, initial=np.inf, **over), np.max(maps, initial=-np.inf, **over)


def varies(low: Any, high: Any) -> Any:
    """Whether a range is more than rounding."""
    with np.errstate(invalid="ignore"):
        return high - low > 1e-6 * np.maximum(abs(low), abs(high))


def steps(grid: Sequence[int], pooled: Sequence[int]) -> tuple[int, ...]:
    """How many cells of `grid` a cell of the `pooled` one stands for, on each axis."""
    sides = zip(grid, pooled, strict=True)
    return tuple(max(1, round(side / less)) for side, less in sides)


def _exact(maps: Any) -> Any:
    """As float64; nothing but NaN if some value is no finite number."""
    maps = maps.astype("float64")
    return maps if np.all(np.isfinite(maps)) else np.full_like(maps, np.nan)


def _centred(maps: Any, axes: Any) -> Any:
    """Without the mean over `axes`; what is left of a constant by rounding is 0."""
    rest = maps - maps.mean(axes, keepdims=True)
    rounding = 1e-6 * abs(maps).max(axes, keepdims=True)
    return np.where(abs(rest) <= rounding, 0.0, rest)


def _energy(maps: Any) -> Any:
    return np.sum(np.square(maps, dtype="float64"))


def _share(part: Any, whole: Any, empty: float) -> float:
    """`part / whole`, and `empty` where there is nothing."""
    return float(part / whole) if whole != 0 else empty


def _move(maps: Any, cells: float, axis: int) -> Any:
    """Maps moved by a fraction of a cell, as if they went on around the border."""
    shape = [-1 if i == axis else 1 for i in range(maps.ndim)]
    turns = np.fft.rfftfreq(maps.shape[axis]).reshape(shape) * cells
    spectrum = np.fft.rfft(maps, axis=axis) * np.exp(-2j * np.pi * turns)
    return np.fft.irfft(spectrum, maps.shape[axis], axis)


def _below_nyquist(maps: Any, stride: int, axis: int) -> Any:
    """What of the maps every `stride`-th cell can still show."""
    side = maps.shape[axis]
    shown = np.fft.rfftfreq(side) <= 0.5 / stride + 1e-9
    # As a product with a matrix, much faster than a transform of every row.
    waves = np.fft.irfft(np.fft.rfft(np.eye(side)) * shown, side)
    rows = maps.reshape(math.prod(maps.shape[:axis]), side, -1)
    return (waves.astype(maps.dtype) @ rows).reshape(maps.shape)


def _inner(maps: Any) -> Any:
    """Maps without the outer quarter on each side of the grid."""
    inner = (slice(side // 4, side - side // 4) for side in maps.shape[1:-1])
    return maps[(slice(None), *inner)]
