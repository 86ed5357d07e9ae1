"""What pictures are made of: colours, lettering, a scale bar, and putting together."""

from collections.abc import Sequence
from typing import Any

import numpy as np

PAPER, INK = 255, 48
LINE = 11  # The height of a line of text, in pixels.
CHECK = 4  # The side of a square in the pattern for what is not a number, in pixels.
CHECKS = (150, 210)

# Ten of the colours of viridis, whose lightness rises evenly, for the colour-blind too:
# van der Walt and Smith (2015), https://bids.github.io/colormap (public domain).
VIRIDIS = np.array(
    [
        (68, 1, 84),
        (72, 40, 120),
        (62, 73, 137),
        (49, 104, 142),
        (38, 130, 142),
        (31, 158, 137),
        (53, 183, 121),
        (110, 206, 88),
        (181, 222, 43),
        (253, 231, 37),
    ]
)
SHADES = 118  # With as many greys and the lettering a picture has few enough for a PNG.
_STOPS = np.linspace(0, SHADES - 1, len(VIRIDIS))
PALETTE = np.stack([np.interp(range(SHADES), _STOPS, c) for c in VIRIDIS.T], axis=1)
PALETTE = np.round(PALETTE).astype("uint8")


def colours(shares: Any) -> Any:
    """Pictures `(..., height, width, 3)` of numbers from 0, dark violet, to 1, yellow.

    What lies outside shows as the nearer end; what is not a number as a grey
    checkerboard.
    """
    lost = np.isnan(shares)
    shades = np.round((SHADES - 1) * np.clip(np.where(lost, 0, shares), 0, 1)).astype(
        int
    )
    rows, columns = (np.arange(side) // CHECK for side in shares.shape[-2:])
    pattern = np.where(np.add.outer(rows, columns) % 2, *CHECKS).astype("uint8")
    return np.where(lost[..., None], pattern[..., None], PALETTE[shades])


def text(line: str) -> Any:
    """A line of text as a picture `(LINE, width, 3)`, 6 pixels a character."""
    from PIL import Image, ImageDraw, ImageFont

    # The small bitmap font; what `load_default` gives is blurred at this size.
    load = getattr(ImageFont, "load_default_imagefont", ImageFont.load_default)
    image = Image.new("L", (max(6 * len(line), 1), LINE), PAPER)
    ImageDraw.Draw(image).text((0, 0), line, INK, load())
    return np.repeat(np.asarray(image)[..., None], 3, axis=2)


def scale_bar(low: str, high: str, width: int = 96) -> Any:
    """The colours from `low` to `high`, which stand written at its ends."""
    bar = colours(np.tile(np.linspace(0, 1, width), (LINE - 2, 1)))
    return row([text(low), bar, text(high)], gap=6)


def row(pictures: Sequence[Any], gap: int = 4) -> Any:
    """Pictures side by side, their tops in a line, on white paper."""
    height = max(len(picture) for picture in pictures)
    parts = []
    for picture in pictures:
        below = height - len(picture)
        parts += [_framed(picture, below, 0), _paper(height, gap)]
    return np.concatenate(parts[:-1], axis=1)


def column(pictures: Sequence[Any], gap: int = 4) -> Any:
    """Pictures one below the other, their left sides in a line, on white paper."""
    width = max(picture.shape[1] for picture in pictures)
    parts = []
    for picture in pictures:
        beside = width - picture.shape[1]
        parts += [_framed(picture, 0, beside), _paper(gap, width)]
    return np.concatenate(parts[:-1], axis=0)


def _paper(height: int, width: int) -> Any:
    return np.full((height, width, 3), PAPER, "uint8")


def _framed(picture: Any, below: int, beside: int) -> Any:
    return np.pad(picture, ((0, below), (0, beside), (0, 0)), constant_values=PAPER)
