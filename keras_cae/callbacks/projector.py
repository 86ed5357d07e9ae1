"""The files from which TensorBoard's projector shows vectors, written without TF."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from keras_cae._files import whole
from keras_cae.callbacks.summaries import png

LARGEST = 8192  # pixels: the side of the largest sprite that TensorBoard takes
THUMBNAIL = 64  # pixels: the longest side of an image in the sprite


def write_vectors(folder: Path, vectors: Any) -> None:
    """Writes one vector a sample, `(samples, numbers)`, in place of earlier ones.

    They must be finite. Vectors of fewer than 3 numbers get zeros behind them: without
    three axes the projector shows no point. As text: TensorBoard takes a file of bytes
    for one only where these happen to be no valid UTF-8.
    """
    missing = max(0, 3 - vectors.shape[1])
    vectors = np.pad(vectors, ((0, 0), (0, missing)))
    lines = ["\t".join(f"{value:.9g}" for value in vector) for vector in vectors]
    _write(folder / "latent.tsv", lines)


def write_projector(
    folder: Path, count: int, labels: Any = None, images: Any = None
) -> None:
    """Writes what the projector shows with the vectors, which must be there already.

    The folder must hold an event file, too, or TensorBoard does not see it as a run.

    Args:
        folder: Where the vectors are.
        count: How many samples there are.
        labels: One a sample, or None.
        images: `(count, height, width[, 3])` in uint8, or None for no sprite.
    """
    _write(folder / "metadata.tsv", _metadata(count, labels))
    entries = ['tensor_name: "latent"', 'tensor_path: "latent.tsv"']
    entries.append('metadata_path: "metadata.tsv"')
    if images is not None:
        images = thumbnails(images, count)
        height, width = images.shape[1:3]
        with whole(folder / "sprite.png") as written:
            written.write_bytes(png(sprite(images)))
        entries.append(
            'sprite { image_path: "sprite.png" '
            f"single_image_dim: {width} single_image_dim: {height} }}"
        )
    body = "\n".join(f"  {entry}" for entry in entries)
    _write(folder / "projector_config.pbtxt", ["embeddings {", body, "}"])


def sprite(images: Any) -> Any:
    """Images in rows of one square picture, from left to right, then downwards.

    Example:
        >>> sprite(np.arange(3, dtype="uint8").reshape(3, 1, 1))
        array([[0, 1],
               [2, 0]], dtype=uint8)
    """
    side = math.ceil(math.sqrt(len(images)))
    room = [(0, side * side - len(images)), *[(0, 0)] * (images.ndim - 1)]
    rows = np.pad(images, room).reshape(side, side, *images.shape[1:])
    return np.concatenate(np.concatenate(rows, axis=1), axis=1)


def thumbnails(images: Any, count: int) -> Any:
    """Images of which `count` fit into a sprite: thinned out to every n-th pixel."""
    longest = min(THUMBNAIL, LARGEST // math.ceil(math.sqrt(count)))
    step = math.ceil(max(images.shape[1:3]) / longest)
    return images[:, ::step, ::step]


def _metadata(count: int, labels: Any) -> list[str]:
    """One line a sample. With two columns there is a header, with one there is none."""
    if labels is None:
        return [str(index) for index in range(count)]
    pairs = zip(labels, range(count), strict=True)
    return ["label\tindex", *(f"{_one_line(label)}\t{n}" for label, n in pairs)]


def _one_line(label: Any) -> str:
    text = label.decode(errors="replace") if isinstance(label, bytes) else str(label)
    return " ".join(text.split())


def _write(path: Path, lines: list[str]) -> None:
    with whole(path) as written:
        written.write_text("\n".join(lines) + "\n", encoding="utf-8")
