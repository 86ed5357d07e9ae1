"""Samples as small pictures of one size, and rows of them with lettering."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_cae.callbacks import curves, drawing

SIDE = 112  # pixels: what the longer side of a panel comes near to.


def value_range(values: Any) -> tuple[float, float]:
    """(0, 1) where all values lie in it, else the lowest and the highest of them."""
    finite = values[np.isfinite(values)]
    low, high = float(np.min(finite, initial=0)), float(np.max(finite, initial=1))
    if low == 0 and high == 1:
        return low, high
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def as_images(
    samples: Any, low: float, high: float, shades: Callable = drawing.colours
) -> Any:
    """Samples as pictures `(samples, height, width, 3)` in uint8, a pixel a cell.

    Three channels are red, green and blue; of other numbers the mean is shown, with
    `shades` for the shares of the way from `low` to `high`. A volume shows its middle
    slice.
    """
    with np.errstate(all="ignore"):
        shares = (np.asarray(samples, "float64") - low) / (high - low)
    if shares.ndim == 5:
        shares = shares[:, shares.shape[1] // 2]
    if is_colour(samples) and np.isfinite(shares).all():
        return np.round(255 * np.clip(shares, 0, 1)).astype("uint8")
    with np.errstate(all="ignore"):
        shares = shares.mean(axis=-1)
    return np.stack([shades(share) for share in shares])


def greys(shares: Any) -> Any:
    """A picture `(height, width, 3)` of numbers from 0, black, to 1, white.

    What is not a number is white.
    """
    whites = np.round(255 * np.clip(np.nan_to_num(shares, nan=1), 0, 1))
    return np.repeat(whites.astype("uint8")[..., None], 3, axis=2)


def is_colour(samples: Any) -> bool:
    """Whether samples, with channels last, are red, green and blue."""
    return samples.ndim in (4, 5) and samples.shape[-1] == 3


def panel_size(grid: Sequence[int]) -> tuple[int, int]:
    """The height and width in pixels of a panel for samples with this grid."""
    if len(grid) == 1:
        return SIDE // 2, SIDE
    height, width = grid[-2:]
    scale = SIDE / max(height, width)
    scale = int(scale) if scale >= 1 else scale
    return max(1, round(height * scale)), max(1, round(width * scale))


def as_panels(samples: Any, low: float, high: float, size: tuple[int, int]) -> Any:
    """Samples as pictures of one size; the mean channel of a sequence as a curve."""
    if samples.ndim == 3:
        with np.errstate(all="ignore"):
            shares = (samples.mean(axis=-1, dtype="float64") - low) / (high - low)
        return curves.tiles(np.clip(shares, 0, 1)[:, None, None], size)[:, 0]
    return [panel(image, size) for image in as_images(samples, low, high)]


def panel(image: Any, size: tuple[int, int]) -> Any:
    """A picture at `size`: enlarged cell by cell, or averaged where it shrinks."""
    from PIL import Image

    shrinks = size[0] < image.shape[0] or size[1] < image.shape[1]
    how = Image.Resampling.BOX if shrinks else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(image).resize(size[::-1], how))


def table(rows: Mapping[str, Sequence[Any]], heads: Sequence[Sequence[str]]) -> Any:
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


def heights(scales: dict[str, tuple[float, float]]) -> Any:
    """Between which values the curves of each name run."""
    ends = [
        f"{name} from {low:.3g} to {high:.3g}" for name, (low, high) in scales.items()
    ]
    return drawing.text(", ".join(ends))


def cell(picture: Any, size: tuple[int, int]) -> Any:
    """The picture on white paper of at least that size."""
    short = [
        (0, max(0, asked - had))
        for asked, had in zip(size, picture.shape[:2], strict=True)
    ]
    return np.pad(picture, [*short, (0, 0)], constant_values=drawing.PAPER)
