"""A pooling and its unpooling against the laws that they declare."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_cae.testing import arrays, backends, verdicts

_SIZES = (1, 2, 3, 5, -1)


@dataclasses.dataclass(frozen=True)
class _Pair:
    """Both layers, and what they are checked with."""

    pooling: keras.layers.Layer
    unpooling: keras.layers.Layer
    inputs: np.ndarray

    def pool(self, x: Any) -> tuple[Any, dict[str, Any]]:
        """The pooled map, and what the unpooling needs beside it."""
        pooled = self.pooling(x, training=False)
        if not isinstance(pooled, (tuple, list)):
            return pooled, {}
        pooled, switches = pooled
        return pooled, {"switches": switches}

    def unpool(self, pooled: Any, like: Any, **switches: Any) -> Any:
        """A map with the grid of `like`."""
        return self.unpooling(pooled, like=like, training=False, **switches)

    def restore(self, x: Any) -> Any:
        """What comes back after pooling and unpooling."""
        pooled, switches = self.pool(x)
        return self.unpool(pooled, x, **switches)

    @property
    def channels_first(self) -> bool:
        """Whether the second axis holds the channels, not the last one."""
        return getattr(self.pooling, "data_format", None) == "channels_first"

    def axes(self, x: Any) -> range:
        """The spatial axes."""
        return arrays.grid_axes(x, self.channels_first)

    def grid(self, x: Any) -> tuple[int, ...]:
        """The sizes of the spatial axes."""
        return tuple(x.shape[axis] for axis in self.axes(x))

    def maps(self) -> list[np.ndarray]:
        """The inputs, and crops of them that the pooling takes, small ones first.

        A window may be too large for small grids, but must fit into all larger ones.
        """
        axes = self.axes(self.inputs)
        crops = [arrays.cropped(self.inputs, axes, size) for size in _SIZES]
        taken: list[np.ndarray] = []
        for x in sorted(crops, key=np.size):
            try:
                pooled, _ = self.pool(x)
            except Exception:
                if taken:
                    raise
                continue
            if 0 not in pooled.shape:
                taken.append(x)
        return [*taken, self.inputs]


def check_pair(
    pooling: keras.layers.Layer,
    unpooling: keras.layers.Layer,
    inputs: Any,
    *,
    lossless: bool = False,
    adjoint: bool = False,
    idempotent: bool = False,
    mixes_channels: bool = False,
) -> list[str]:
    """Checks that an unpooling undoes a pooling, as far as the two declare it.

    The kit calls the layers as they are, with the weights that they have, as
    `unpooling(pooled, like=x)`; where the pooling returns `(pooled, switches)` as
    `unpooling(pooled, switches=switches, like=x)`. It does so on the whole inputs and
    on crops of them, down to one cell, as long as the pooling takes them: a window may
    be too large for a grid, but the pooling has to take all grids that are larger.

    Always checked: "size" (every grid comes back, odd or even), "unknown sizes" (also
    in a graph that does not know the grid) and "channels" (each channel depends on one
    channel of the input).

    Args:
        pooling: The layer that makes the grid smaller.
        unpooling: The layer that restores it.
        inputs: An array for the pooling. Sides of 7 and 10 and exact zeros tell most.
        lossless: Whether `unpool(pool(x)) == x`.
        adjoint: Whether `<pool(x), y> == <x, unpool(y)>` for all x and y.
        idempotent: Whether `pool(unpool(pool(x))) == pool(x)`. For max pooling with
            switches that holds for inputs that are not negative.
        mixes_channels: Whether channels depend on each other, which is then allowed.

    Returns:
        The names of the laws that were checked.

    Raises:
        AssertionError: A law is broken; the message names it and says how.

    Example:
        >>> import keras_cae
        >>> x = np.random.default_rng(0).uniform(size=(2, 7, 10, 3))
        >>> pooling = keras_cae.layers.AveragePooling(2)
        >>> unpooling = keras_cae.layers.AverageUnpooling(2)
        >>> check_pair(pooling, unpooling, x, adjoint=True)
        ['size', 'unknown sizes', 'channels', 'adjoint']
        >>> check_pair(pooling, unpooling, x, lossless=True)
        Traceback (most recent call last):
        AssertionError: AveragePooling and AverageUnpooling: lossless: ...
    """
    inputs = np.asarray(keras.ops.convert_to_numpy(inputs), dtype="float32")
    laws: dict[str, verdicts.Promise] = {"size": _size, "unknown sizes": _unknown_sizes}
    if not mixes_channels:
        laws["channels"] = _channels
    if lossless:
        laws["lossless"] = _lossless
    if adjoint:
        laws["adjoint"] = _adjoint
    if idempotent:
        laws["idempotent"] = _idempotent
    who = f"{type(pooling).__name__} and {type(unpooling).__name__}"
    return verdicts.kept(who, laws, _Pair(pooling, unpooling, inputs))


def _size(pair: _Pair) -> None:
    """Every grid comes back."""
    for x in pair.maps():
        had, has = pair.grid(x), pair.grid(pair.restore(x))
        if had != has:
            raise AssertionError(f"a grid of {had} came back as {has}")


def _unknown_sizes(pair: _Pair) -> None:
    """So it does where the sizes are unknown until it runs, with the same values."""
    shape: list[int | None] = list(pair.inputs.shape)
    for axis in (0, *pair.axes(pair.inputs)):
        shape[axis] = None
    x = keras.Input(batch_shape=shape, name="x")
    traced = backends.traced(keras.Model({"x": x}, pair.restore(x)))
    for array in pair.maps():
        got, wanted = (
            arrays.values(y) for y in (traced({"x": array}), pair.restore(array))
        )
        arrays.require_equal(got, wanted, f"on a grid of {pair.grid(array)}")


def _channels(pair: _Pair) -> bool | None:
    """Each channel depends on one channel of the input, pooled and restored."""
    axis = 1 if pair.channels_first else -1
    if pair.inputs.shape[axis] < 2:
        return False
    for what, function in (("pooled", pair.pool), ("restored", pair.restore)):
        for index, sources in enumerate(_sources(function, pair.inputs, axis)):
            if len(sources) > 1:
                raise AssertionError(
                    f"channel {index} of the {what} map depends on the channels "
                    f"{sources} of the input; `mixes_channels=True` declares that"
                )
    return None


def _sources(
    function: Callable[[Any], Any], x: np.ndarray, axis: int
) -> list[list[int]]:
    """For each channel of the output those of the input that it depends on."""
    first = np.moveaxis(arrays.values(function(x))[0], axis, 0)
    found: list[list[int]] = [[] for _ in first]
    for source in range(x.shape[axis]):
        changed = np.moveaxis(x.copy(), axis, 0)
        changed[source] = 1 - changed[source]
        output = arrays.values(function(np.moveaxis(changed, 0, axis)))[0]
        for index, channel in enumerate(np.moveaxis(output, axis, 0)):
            if arrays.largest_difference(channel, first[index]) > 1e-6:
                found[index].append(source)
    return found


def _lossless(pair: _Pair) -> None:
    """What comes back is what went in."""
    for x in pair.maps():
        got = arrays.values(pair.restore(x))
        arrays.require_equal(got, [x], f"unpool(pool(x)) on a grid of {pair.grid(x)}")


def _adjoint(pair: _Pair) -> None:
    """`<pool(x), y> == <x, unpool(y)>` for any y of the pooled shape."""
    for x in pair.maps():
        outputs, switches = pair.pool(x)
        (pooled,) = arrays.values(outputs)
        y = np.random.default_rng(0).normal(size=pooled.shape).astype("float32")
        (spread,) = arrays.values(pair.unpool(y, x, **switches))
        left, right = float(np.vdot(pooled, y)), float(np.vdot(x, spread))
        scale = float(np.linalg.norm(pooled) * np.linalg.norm(y))
        if not abs(left - right) <= 1e-5 * max(1.0, scale):
            raise AssertionError(
                f"<pool(x), y> is {left:.6g} but <x, unpool(y)> is {right:.6g} on a "
                f"grid of {pair.grid(x)}"
            )


def _idempotent(pair: _Pair) -> None:
    """Pooling what came back gives the pooled map again."""
    for x in pair.maps():
        pooled = arrays.values(pair.pool(x)[0])
        again = arrays.values(pair.pool(pair.restore(x))[0])
        what = f"pool(unpool(pool(x))) on a grid of {pair.grid(x)}"
        arrays.require_equal(again, pooled, what)
