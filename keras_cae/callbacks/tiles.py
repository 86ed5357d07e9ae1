"""Feature maps as one picture: samples as rows of tiles, channels as columns."""

import math
from typing import Any

import numpy as np

SIDE = 56  # A tile has at least as many pixels as a square with this side.
LONGEST = 128  # Neither its height nor its width is above this.
BAND = 24  # The height of the band that shows a sequence.
GAP = 4
GAP_SHADE = 96


def tile_size(grid: tuple[int, ...]) -> tuple[int, int]:
    """The height and width in pixels of a tile that shows maps with this grid.

    Small maps are enlarged by a whole factor; a side that is too long is thinned out to
    every second, third ... cell. A sequence is drawn as a band, a volume as its middle
    slice.
    """
    if len(grid) == 1:
        return BAND, _thinned(grid[0] * math.ceil(SIDE / grid[0]))
    height, width = grid[-2:]
    factor = math.ceil(SIDE / math.sqrt(height * width))
    return _thinned(height * factor), _thinned(width * factor)


def tile(maps: Any, size: tuple[int, int]) -> Any:
    """Maps `(samples, *grid, channels)` as one grey picture with tiles of `size`.

    A channel goes from black, the lowest of its values in all samples, to white, the
    highest; a constant one is black. What is not a number shows as a checkerboard.
    """
    shades = _resize(_shades(_flat(maps)), size)
    frame = (0, 0), (0, GAP), (0, GAP), (0, 0)
    rows = np.pad(shades, frame, constant_values=GAP_SHADE).transpose(0, 1, 3, 2)
    samples, height, channels, width = rows.shape
    picture = rows.reshape(samples * height, channels * width)[:-GAP, :-GAP]
    picture = np.where(np.isnan(picture), _checkers(picture.shape), picture)
    return picture.astype("uint8")


def _thinned(side: int) -> int:
    return side // math.ceil(side / LONGEST)


def _flat(maps: Any) -> Any:
    """Maps with two spatial axes: a sequence as one row, a volume's middle slice."""
    if maps.ndim == 3:
        return maps[:, None]
    return maps[:, maps.shape[1] // 2] if maps.ndim == 5 else maps


def _shades(maps: Any) -> Any:
    """Each channel between 0 and 255; NaN stays NaN."""
    maps = maps.astype("float64")
    over = {"axis": (0, 1, 2), "keepdims": True, "where": np.isfinite(maps)}
    low = np.min(maps, initial=np.inf, **over)
    high = np.max(maps, initial=-np.inf, **over)
    # Values that differ by no more than rounding count as constant.
    varies = high - low > 1e-6 * np.maximum(abs(low), abs(high))
    with np.errstate(invalid="ignore"):
        shares = (maps - low) / np.where(varies, high - low, np.inf)
    return np.clip(np.round(shares * 255), 0, 255)


def _resize(maps: Any, size: tuple[int, int]) -> Any:
    """Maps at `size`, where each pixel shows one cell."""
    rows, columns = (
        np.arange(pixels) * cells // pixels
        for pixels, cells in zip(size, maps.shape[1:3], strict=True)
    )
    return maps[:, rows][:, :, columns]


def _checkers(shape: tuple[int, ...]) -> Any:
    rows, columns = (np.arange(side) // 4 for side in shape)
    return np.add.outer(rows, columns) % 2 * 255
