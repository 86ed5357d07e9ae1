"""Feature maps as one picture: samples as rows of tiles, channels as columns."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_cae.callbacks import curves
from keras_cae.callbacks.diagnostics import channel_ranges, varies
from keras_cae.callbacks.drawing import (
    INK,
    LINE,
    PAPER,
    colours,
    column,
    row,
    scale_bar,
    text,
)

SIDE = 56  # A tile has at least as many pixels as a square with this side.
LONGEST = 128  # Neither its height nor its width is above this.
NARROWEST = 50  # A column of tiles has room for the numbers above it.
GAP = 4
LIGHT = np.array([0.3, 0.59, 0.11])  # How light red, green and blue are.


def tile_size(grid: tuple[int, ...]) -> tuple[int, int]:
    """The height and width in pixels of a tile that shows maps with this grid.

    Small maps are enlarged by a whole factor; a side that is too long is thinned out to
    every second, third ... cell. A sequence is drawn as a curve, a volume as its middle
    slice.
    """
    if len(grid) == 1:
        return SIDE, max(SIDE, min(grid[0] * math.ceil(SIDE / grid[0]), LONGEST))
    height, width = grid[-2:]
    factor = math.ceil(SIDE / math.sqrt(height * width))
    return _thinned(height * factor), _thinned(width * factor)


def picture(
    maps: Any, size: tuple[int, int], numbers: Sequence[int], kept: Any = None
) -> Any:
    """Maps `(samples, *grid, channels)` as a picture `(height, width, 3)`.

    A channel goes from dark violet, the lowest of its values in all samples, to yellow,
    the highest; both stand above it. What is not a number shows as a checkerboard. The
    values of a sequence are drawn as a curve.

    Args:
        maps: The maps of the channels to show.
        size: The height and width of a tile.
        numbers: The numbers of these channels.
        kept: Which values to show in colour, as 0 and 1; the others are grey.
    """
    low, high = channel_ranges(maps)
    shares = _shares(_flat(maps), low, high)
    chosen = None if kept is None else _flat(kept).transpose(0, 3, 1, 2) > 0
    draw = curves.tiles if maps.ndim == 3 else _coloured
    tiles = draw(shares.transpose(0, 3, 1, 2), size, chosen)
    width = max(size[1], NARROWEST) + GAP
    parts = [_header(numbers, low, high, width), _mosaic(tiles, width)]
    return column([*parts, _key(maps.ndim == 3)], gap=GAP)


def active_channels(maps: Any, count: int) -> list[int]:
    """The numbers of the channels that vary most, at most `count`, in rising order."""
    maps = np.where(np.isfinite(maps), maps, 0).astype("float64")
    spread = np.std(maps, axis=tuple(range(maps.ndim - 1)))
    return sorted(np.argsort(-spread, kind="stable")[:count].tolist())


def _thinned(side: int) -> int:
    return side // math.ceil(side / LONGEST)


def _flat(maps: Any) -> Any:
    """Maps with two spatial axes: a sequence as one row, a volume's middle slice."""
    if maps.ndim == 3:
        return maps[:, None]
    return maps[:, maps.shape[1] // 2] if maps.ndim == 5 else maps


def _shares(maps: Any, low: Any, high: Any) -> Any:
    """Each channel between 0 and 1; NaN stays NaN, a constant is 0."""
    with np.errstate(invalid="ignore"):
        span = np.where(varies(low, high), high - low, np.inf)
        return np.clip((maps.astype("float64") - low) / span, 0, 1)


def _coloured(shares: Any, size: tuple[int, int], kept: Any) -> Any:
    """Tiles `(samples, channels, height, width, 3)`; each pixel shows one cell."""
    shares = _resize(shares, size)
    tiles = colours(shares)
    if kept is None:
        return tiles
    greys = tiles @ LIGHT  # As light as the colours: the whole map stays to be seen.
    shown = _resize(kept, size) | np.isnan(shares)
    return np.where(shown[..., None], tiles, greys.astype("uint8")[..., None])


def _resize(maps: Any, size: tuple[int, int]) -> Any:
    rows, columns = (
        np.arange(pixels) * cells // pixels
        for pixels, cells in zip(size, maps.shape[-2:], strict=True)
    )
    return maps[..., rows, :][..., columns]


def _mosaic(tiles: Any, width: int) -> Any:
    """Tiles in rows and columns, the columns as wide as `width`, gaps included."""
    gaps = (0, 0), (0, 0), (0, GAP), (0, width - tiles.shape[3]), (0, 0)
    tiles = np.pad(tiles, gaps, constant_values=PAPER).transpose(0, 2, 1, 3, 4)
    samples, height, channels, width, _ = tiles.shape
    return tiles.reshape(samples * height, channels * width, 3)[:-GAP, :-GAP]


def _header(numbers: Sequence[int], low: Any, high: Any, width: int) -> Any:
    """Above each column the number of its channel, its highest and lowest value."""
    heads = []
    for number, least, most in zip(numbers, low, high, strict=True):
        lines = [f"{most:.3g}", f"{least:.3g}"]
        if not varies(least, most):
            lines = ["const", lines[1]] if np.isfinite(least) else ["NaN", ""]
        head = column([text(f"#{number}"), *map(text, lines)], gap=0)[:, : width - GAP]
        blank = np.full((3 * LINE, width, 3), PAPER, "uint8")
        blank[:, : head.shape[1]] = head
        blank[LINE - 1, : width - GAP] = INK
        heads.append(blank)
    return np.concatenate(heads, axis=1)[:, :-GAP]


def _key(is_sequence: bool) -> Any:
    if is_sequence:
        return text("# channel, its highest and its lowest value")
    return row([scale_bar("lowest", "highest"), text(" # channel, highest, lowest")])
