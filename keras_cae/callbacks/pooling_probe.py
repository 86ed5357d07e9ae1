"""A probe that also learns how a pooling chooses and where its stride costs it."""

import itertools
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cae.callbacks.probe import Pool, Probe, as_maps
from keras_cae.layers import MaxPooling, MaxUnpooling

# Beyond so many (a 4 x 4 stride), pooling at every offset is not worth its time.
MOST_OFFSETS = 16

MAX_POOLINGS = (
    MaxPooling,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
)


class PoolingProbe(Probe):
    """Runs a model as in inference and returns what happens at its pooling layers.

    As `Probe`, but with a dict for each call of a layer:

    - `before` and `after`, the maps;
    - `kept`, for max pooling: 1 where a value of `before` is the first maximum of a
      window, else 0;
    - `phases`, for layers with a stride: their maps at every offset within it, in
      reading order along the batch axis (see `dense`).
    """

    def __init__(self, watched: keras.Model, pools: list[Pool]) -> None:
        super().__init__(watched, pools)
        # Made here, since a compiled graph of PyTorch makes no layers.
        self.choosers = {
            str(id(pool.layer)): _chooser(pool.layer)
            for pool in pools
            if isinstance(pool.layer, MAX_POOLINGS)
        }

    def look(self, layer: keras.Layer, given: Any, before: Any, after: Any) -> Any:
        seen = {"before": before, "after": after}
        if str(id(layer)) in self.choosers:
            pooling, unpooling = self.choosers[str(id(layer))]
            pooled, switches = pooling(before)
            ones = ops.ones_like(pooled)
            seen["kept"] = unpooling(ones, switches=switches, like=before)
        offsets = math.prod(strides_of(layer, len(before.shape) - 2))
        if 1 < offsets <= MOST_OFFSETS:
            try:
                seen["phases"] = _phases(layer, given, len(before.shape) - 2)
            except Exception:  # A layer of whatever kind need not run a second time.
                seen.pop("phases", None)
        return seen


def strides_of(layer: keras.Layer, rank: int) -> tuple[int, ...]:
    """The strides of a layer, one for each spatial axis; 0 where it does not say."""
    strides = getattr(layer, "strides", None) or getattr(layer, "pool_size", 0)
    found = tuple(keras.tree.flatten(strides))
    found = found * rank if len(found) == 1 else found
    known = len(found) == rank and all(isinstance(x, int) for x in found)
    return found if known else (0,) * rank


def dense(phases: Any, strides: tuple[int, ...], grid: tuple[int, ...]) -> Any:
    """The maps at every offset put together to those of a stride of 1 on `grid`."""
    rank, samples = len(strides), len(phases) // math.prod(strides)
    x = phases.reshape(*strides, samples, *phases.shape[1:])
    pairs = [axis for i in range(rank) for axis in (rank + 1 + i, i)]
    x = x.transpose(rank, *pairs, 2 * rank + 1)
    sides = [s * stride for s, stride in zip(phases.shape[1:-1], strides, strict=True)]
    x = x.reshape(samples, *sides, -1)
    return x[(slice(None), *map(slice, grid))]


def _chooser(layer: keras.Layer) -> list[keras.Layer]:
    """A max pooling that tells its switches, and its partner."""
    settings = layer.pool_size, layer.strides, layer.padding, "channels_last"
    pooling = MaxPooling(*settings, return_switches=True, dtype="float32")
    return [pooling, MaxUnpooling(*settings, dtype="float32")]


def _phases(layer: keras.Layer, given: Any, rank: int):
    (x, *args), kwargs = given
    data_format = getattr(layer, "data_format", None)
    data_format = data_format or keras.config.image_data_format()
    first = 2 if data_format == "channels_first" else 1
    axes = tuple(range(first, first + rank))
    offsets = itertools.product(*map(range, strides_of(layer, rank)))
    moved = [ops.roll(x, [-n for n in offset], axes) for offset in offsets]
    return as_maps(layer, layer.call(ops.concatenate(moved), *args, **kwargs))


def moved_by_one(inputs: Any, data_format: str) -> Any:
    """Every array with a grid moved by one cell along each axis, around the border."""

    def moved(x):
        if not 3 <= x.ndim <= 5:
            return x
        axes = range(1, x.ndim)
        grid = list(axes[1:] if data_format == "channels_first" else axes[:-1])
        return np.roll(x, [1] * len(grid), grid)

    return keras.tree.map_structure(moved, inputs)
