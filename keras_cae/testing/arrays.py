"""Arrays: cut, turned, transposed, and compared."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

Arrays = dict[str, np.ndarray]


def is_float(value: Any) -> bool:
    """Whether a tensor or an array holds floats, of whatever width."""
    return "float" in keras.backend.standardize_dtype(value.dtype)


def values(outputs: Any) -> list[np.ndarray]:
    """The output tensors of a layer in a row; floats as float32."""
    tensors = keras.tree.flatten(outputs)
    return [
        keras.ops.convert_to_numpy(keras.ops.cast(t, "float32") if is_float(t) else t)
        for t in tensors
    ]


def grid_axes(array: Any, channels_first: bool) -> range:
    """The spatial axes; a tensor with less than three axes has none."""
    rank = len(array.shape)
    return range(2, rank) if channels_first else range(1, rank - 1)


def cropped(array: np.ndarray, axes: range, size: int) -> np.ndarray:
    """The corner with at most `size` cells along each axis; from its end if negative.

    A negative size leaves one cell at least.
    """
    index = [slice(None)] * array.ndim
    for axis in axes:
        length = array.shape[axis]
        index[axis] = slice(min(size, length) if size > 0 else max(length + size, 1))
    return array[tuple(index)]


def other_sizes(tensors: Arrays, channels_first: bool) -> Iterator[Arrays]:
    """The tensors on other grids, most telling first: cut, turned, one cell.

    Several tensors of one call must fit each other, so that some may not be accepted.
    """
    grids = {name: grid_axes(array, channels_first) for name, array in tensors.items()}
    if not any(grids.values()):
        return
    yield {name: cropped(array, grids[name], -1) for name, array in tensors.items()}
    yield {
        name: np.swapaxes(array, grids[name][0], grids[name][-1])
        if grids[name]
        else array
        for name, array in tensors.items()
    }
    yield {name: cropped(array, grids[name], 1) for name, array in tensors.items()}


def transposed(array: np.ndarray, to: str) -> np.ndarray:
    """An array in the other data format; one without a grid stays as it is."""
    if array.ndim < 3:
        return array
    first, last = 1, array.ndim - 1
    source, goal = (last, first) if to == "channels_first" else (first, last)
    return np.moveaxis(array, source, goal)


def require_equal(
    got: list[np.ndarray],
    wanted: list[np.ndarray],
    what: str,
    tolerance: float = 1e-5,
) -> None:
    """Raises AssertionError where arrays differ; the tolerance is that of float32.

    Integers must be the same; floats differ by at most `tolerance`, or by this part of
    the largest value.
    """
    if len(got) != len(wanted):
        raise AssertionError(f"{what}: {len(got)} outputs instead of {len(wanted)}")
    for one, other in zip(got, wanted, strict=True):
        if one.shape != other.shape:
            raise AssertionError(f"{what}: shape {one.shape} instead of {other.shape}")
        allowed = tolerance * _scale(other) if is_float(other) else 0.0
        gap = largest_difference(one, other)
        if not gap <= allowed:
            raise AssertionError(f"{what}: outputs differ by up to {gap:.3g}")


def largest_difference(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference between two arrays; NaN where only one is finite."""
    alike = (one == other) | ((one != one) & (other != other))
    one, other = (np.where(alike, 0, a).astype("float64") for a in (one, other))
    return float(np.max(np.abs(one - other), initial=0.0))


def _scale(array: np.ndarray) -> float:
    finite = np.abs(array[np.isfinite(array)])
    return float(np.max(finite, initial=1.0))
