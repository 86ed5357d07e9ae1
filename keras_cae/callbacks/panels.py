"""Samples as small pictures of one size, and rows of them with lettering."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_cae.callbacks import drawing

SIDE = 112  # pixels: what the longer side of a panel comes near to.


def value_range(values: Any) -> tuple[float, float]:
    """(0, 1) where all values lie in it, else the lowest and the highest of them."""
    finite = values[np.isfinite(values)]
    low, high = float(np.min(finite, initial=0)), float(np.max(finite, initial=1))
    if low == 0 and high == 1:
        return low, high
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def as_images(samples: Any, low: float, high: float) -> Any:
    """Samples as pictures `(samples, height, width, 3)` in uint8, a pixel a cell.

    Three channels are red, green and blue, except in a sequence; of other numbers the
    mean is shown in colours from dark violet, `low`, to yellow, `high`. A volume shows
    its middle slice, a sequence is a row.
    """
    with np.errstate(all="ignore"):
        shares = (np.asarray(samples, "float64") - low) / (high - low)
    if shares.ndim == 5:
        shares = shares[:, shares.shape[1] // 2]
    if is_colour(samples) and np.isfinite(shares).all():
        return np.round(255 * np.clip(shares, 0, 1)).astype("uint8")
    with np.errstate(all="ignore"):
        shares = shares.mean(axis=-1)
    return np.stack([drawing.colours(np.atleast_2d(share)) for share in shares])


def is_colour(samples: Any) -> bool:
    """Whether samples, with channels last, are red, green and blue."""
    return samples.ndim in (4, 5) and samples.shape[-1] == 3


def panel_size(grid: Sequence[int]) -> tuple[int, int]:
    """The height and width in pixels of a panel for samples with this grid."""
    if len(grid) == 1:
        return SIDE // 4, SIDE
    height, width = grid[-2:]
    scale = SIDE / max(height, width)
    scale = int(scale) if scale >= 1 else scale
    return max(1, round(height * scale)), max(1, round(width * scale))


def panel(image: Any, size: tuple[int, int]) -> Any:
    """A picture at `size`: enlarged cell by cell, or averaged where it shrinks."""
    from PIL import Image

    shrinks = size[0] < image.shape[0] or size[1] < image.shape[1]
    how = Image.Resampling.BOX if shrinks else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(image).resize(size[::-1], how))


def table(rows: dict[str, Sequence[Any]], heads: Sequence[Sequence[str]]) -> Any:
    """Rows of panels of one size, each under its lines of text, with row names left."""
    size = next(iter(rows.values()))[0].shape[:2]
    width = 6 * max(len(line) for lines in heads for line in lines)
    size = size[0], max(size[1], width)
    beside = 6 * max(len(name) for name in rows)
    first = [cell(drawing.text(" "), (1, beside))]
    lines = [
        drawing.row(
            [*first, *(cell(drawing.text(head[n]), (1, size[1])) for head in heads)]
        )
        for n in range(len(heads[0]))
    ]
    for name, panels in rows.items():
        label = cell(drawing.text(name), (size[0], beside))
        lines.append(drawing.row([label, *(cell(panel, size) for panel in panels)]))
    return drawing.column(lines)


def scale_bars(scales: dict[str, tuple[float, float]]) -> Any:
    """The scale of each name; names of one scale share a bar."""
    names: dict[tuple[float, float], str] = {}
    for name, ends in scales.items():
        names[ends] = f"{names[ends]}, {name}" if ends in names else name
    bars = []
    for (low, high), name in names.items():
        bar = drawing.scale_bar(f"{low:.3g}", f"{high:.3g}")
        bars += [drawing.text(name), bar, drawing.text(" ")]
    return drawing.row(bars[:-1])


def cell(picture: Any, size: tuple[int, int]) -> Any:
    """The picture on white paper of at least that size."""
    short = [
        (0, max(0, asked - had))
        for asked, had in zip(size, picture.shape[:2], strict=True)
    ]
    return np.pad(picture, [*short, (0, 0)], constant_values=drawing.PAPER)
