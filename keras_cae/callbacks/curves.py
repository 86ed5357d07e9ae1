"""Sequences as curves."""

from typing import Any

import numpy as np

from keras_cae.callbacks.drawing import INK, PALETTE, colours

BACKGROUND = 236
KEPT = PALETTE[len(PALETTE) // 2]


def tiles(shares: Any, size: tuple[int, int], kept: Any = None) -> Any:
    """Curves of `shares`, `(samples, channels, 1, length)`, from 0, below, to 1.

    Returns tiles `(samples, channels, height, width, 3)` with a column of pixels for
    each cell or more, or for several cells, whose lowest and highest value it spans.
    Where something is not a number, the column is a checkerboard. Cells that were
    `kept` have a colour of their own.
    """
    height, width = size
    starts = np.arange(width) * shares.shape[-1] // width
    lost = np.logical_or.reduceat(np.isnan(shares), starts, axis=-1)
    filled = np.where(np.isnan(shares), 0, shares)
    low = np.minimum.reduceat(filled, starts, axis=-1)
    high = np.maximum.reduceat(filled, starts, axis=-1)
    # Columns reach to the ones before, so that a curve has no gaps.
    joined = np.minimum(low, _before(high)), np.maximum(high, _before(low))
    heights = 1 - np.arange(height)[:, None] / (height - 1)
    half = 0.5 / (height - 1)  # At least one pixel is drawn.
    drawn = (heights >= joined[0] - half) & (heights <= joined[1] + half)
    ink = np.full((*drawn.shape, 3), INK, "uint8")
    if kept is not None:
        chosen = np.logical_or.reduceat(kept, starts, axis=-1)
        ink = np.where(chosen[..., None], KEPT, ink)
    picture = np.where(drawn[..., None], ink, np.uint8(BACKGROUND))
    lost = np.broadcast_to(lost, drawn.shape)
    return np.where(lost[..., None], colours(np.full(drawn.shape, np.nan)), picture)


def _before(columns: Any) -> Any:
    return np.concatenate([columns[..., :1], columns[..., :-1]], axis=-1)
