"""Pictures of a latent: its samples in the plane, and how its units go together."""

from typing import Any

import numpy as np

from keras_cae.callbacks import drawing, panels

UNITS = 32  # How many units a picture of their correlations has at most.
CANVAS = 640  # pixels: the side of the plane.
SMALL = 28  # pixels: the longest side of a sample in it.


def plane(vectors: Any, images: Any) -> tuple[Any, int]:
    """Each image where its vector lies along the two directions of largest variance.

    Both axes have one unit of length. An image that would cover an earlier one is left
    out.

    Args:
        vectors: `(samples, numbers)`, all finite.
        images: `(samples, height, width, 3)` in uint8.

    Returns:
        The picture and how many images are in it.

    Reference:
        Pearson (1901), [On lines and planes of closest fit to systems of points in
        space](https://doi.org/10.1080/14786440109462720).
    """
    step = -(-max(images.shape[1:3]) // SMALL)
    images = images[:, ::step, ::step]
    size = np.array(images.shape[1:3])
    places = _principal(vectors)
    shares = (places / (np.max(np.abs(places), initial=0) or 1.0) + 1) / 2
    corners = np.round(shares * (CANVAS - size)).astype(int)
    canvas = np.full((CANVAS, CANVAS, 3), drawing.PAPER, "uint8")
    drawn: list[int] = []
    for index, (top, left) in enumerate(corners):
        apart = np.abs(corners[drawn] - (top, left)) >= size
        if apart.any(axis=1).all():
            canvas[top : top + size[0], left : left + size[1]] = images[index]
            drawn.append(index)
    return canvas, len(drawn)


def _principal(vectors: Any) -> Any:
    """The coordinates along the second and the first principal direction."""
    centred = vectors - vectors.mean(axis=0)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    # The sign of a direction is arbitrary: its largest entry shall be positive.
    largest = np.argmax(np.abs(right), axis=1)
    signs = np.sign(right[np.arange(len(right)), largest])
    places = left * sizes * signs
    return np.pad(places, [(0, 0), (0, 2)])[:, 1::-1]


def matrix(correlations: Any, variances: Any) -> Any:
    """The correlations of the units that vary most, which are named by their numbers.

    From -1, dark violet, to 1, yellow; where there is none, a grey checkerboard.
    """
    most = np.argsort(-np.nan_to_num(variances), kind="stable")[:UNITS]
    units = np.sort(most)
    cell = max(12, 256 // len(units))
    shares = (correlations[np.ix_(units, units)] + 1) / 2
    pixels = drawing.colours(np.kron(shares, np.ones((cell, cell))))
    edge = 6 * len(str(units.max()))
    numbers = [panels.cell(drawing.text(str(unit)), (cell, edge)) for unit in units]
    beside = drawing.column([number[:cell] for number in numbers], gap=0)
    picture = drawing.row([beside, pixels], gap=2)
    if cell >= edge + 2:
        heads = [panels.cell(drawing.text(str(unit)), (1, cell)) for unit in units]
        corner = panels.cell(drawing.text(" "), (1, edge + 2))
        picture = drawing.column([drawing.row([corner, *heads], gap=0), picture], gap=1)
    bars = panels.scale_bars({"correlation": (-1, 1)})
    return drawing.column([picture, bars], gap=8)
