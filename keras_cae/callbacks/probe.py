"""Probes: one forward pass that records what chosen layers take in and give out."""

import contextlib
import functools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops


@dataclass(frozen=True)
class Pool:
    """A layer that may make the grid smaller, and the name that its maps go by."""

    name: str
    layer: keras.Layer


def find_pools(model: keras.Model) -> list[Pool]:
    """The layers inside `model`, nested ones too, that may make the grid smaller.

    They are known by a trait, not by their class: a `pool_size`, an `output_size` or a
    stride above 1. Whether they do is for the forward pass to tell (see `Probe`).

    A name is the path of layer names from the model. A block that lists its parts as
    `.layers` and pools once lends its own name to that pooling.
    """
    pools: dict[int, Pool] = {}
    for pool in _pools_in(model):
        name = _unused(pool.name, {other.name for other in pools.values()})
        pools.setdefault(id(pool.layer), Pool(name, pool.layer))
    return list(pools.values())


def _pools_in(owner: keras.Layer, above: tuple[keras.Layer, ...] = ()) -> list[Pool]:
    pools = []
    for child in _children(owner):
        if child in above:
            continue
        inner = _pools_in(child, (*above, child))
        name = "/".join(layer.name for layer in (*above, child))
        if not inner and _may_pool(child):
            inner = [Pool(name, child)]
        elif len(inner) == 1 and _is_block(child):
            inner = [Pool(name, inner[0].layer)]
        pools += inner
    return pools


def _children(owner: keras.Layer) -> list[keras.Layer]:
    if isinstance(owner, keras.Model):
        return owner.layers
    # Keras has no public way to list the parts of a layer that is no model.
    return owner._flatten_layers(include_self=False, recursive=False)


def _is_block(layer: keras.Layer) -> bool:
    parts = getattr(layer, "layers", None)
    return isinstance(parts, (list, tuple)) and not isinstance(layer, keras.Model)


def _may_pool(layer: keras.Layer) -> bool:
    sized = hasattr(layer, "pool_size") or hasattr(layer, "output_size")
    return sized or any(stride > 1 for stride in _strides(layer))


def _strides(layer: keras.Layer) -> list[int]:
    strides = keras.tree.flatten(getattr(layer, "strides", None))
    return [stride for stride in strides if isinstance(stride, int)]


def _unused(name: str, names: set[str]) -> str:
    """`name`, or where it is among `names` the first free of `name_2`, `name_3`."""
    unused, count = name, 1
    while unused in names:
        count += 1
        unused = f"{name}_{count}"
    return unused


class Probe(keras.Model):
    """Runs a model as in inference and returns the maps around its pooling layers.

    Returns `{name: (before, after)}`: float32, channels last, one entry a call, so
    that a layer that is called twice has entries `name` and `name_2`. Calls that do
    not make the grid smaller have none, but a pooling with a stride of 1 has.

    A probe shares the layers and weights of the model and leaves no trace in it. It is
    compiled as the model is, at its first `predict_on_batch`.

    Args:
        watched: The model.
        pools: The layers whose maps to return, as found by `find_pools`.
    """

    def __init__(self, watched: keras.Model, pools: list[Pool]) -> None:
        # No casting: the watched model gets its inputs as training gives them.
        super().__init__(name="probe", dtype="float32", autocast=False)
        self.watched = watched
        self.pools = pools
        self.run_eagerly = watched.run_eagerly
        self.jit_compile = watched.jit_compile
        self.built = True

    def call(self, inputs):
        with contextlib.ExitStack() as stack:
            records: list[tuple[Pool, Any, Any]] = []
            for pool in self.pools:
                stack.enter_context(recording(pool, records))
            self.watched(inputs, training=False)
        names = {pool.name for pool in self.pools}
        maps: dict[str, Any] = {}
        for pool, given, outputs in records:
            before, after = as_maps(pool.layer, given), as_maps(pool.layer, outputs)
            if _is_pooled(pool.layer, before.shape, after.shape):
                first = pool.name not in maps
                name = pool.name if first else _unused(pool.name, names | set(maps))
                maps[name] = self.look(pool.layer, given, before, after)
        return maps

    def look(self, layer: keras.Layer, given: Any, before: Any, after: Any) -> Any:
        """What to return of a call of `layer`; `given` are its args and kwargs."""
        return before, after


@contextlib.contextmanager
def recording(pool: Pool, records: list[tuple[Pool, Any, Any]]) -> Iterator[None]:
    """Adds what the layer takes in and gives out to `records`, at each of its calls."""
    layer, call = pool.layer, pool.layer.call
    was_own = "call" in vars(layer)

    @functools.wraps(call)
    def recorded(*args, **kwargs):
        outputs = call(*args, **kwargs)
        records.append((pool, (args, kwargs), outputs))
        return outputs

    # Past the layer's own `__setattr__`, which tracks what it is given.
    object.__setattr__(layer, "call", recorded)
    try:
        yield
    finally:
        if was_own:
            object.__setattr__(layer, "call", call)
        else:
            object.__delattr__(layer, "call")


def as_maps(layer: keras.Layer, tensors: Any):
    """The first of `tensors` as float32 maps with channels last."""
    x = ops.cast(keras.tree.flatten(tensors)[0], "float32")
    data_format = getattr(layer, "data_format", None)
    if (data_format or keras.config.image_data_format()) == "channels_first":
        return ops.moveaxis(x, 1, -1) if len(x.shape) > 2 else x
    return x


def _is_pooled(layer: keras.Layer, shape: Any, pooled_shape: Any) -> bool:
    if not 3 <= len(shape) == len(pooled_shape) <= 5:
        return False
    sides = list(zip(shape[1:-1], pooled_shape[1:-1], strict=True))
    known = [(side, pooled) for side, pooled in sides if side and pooled]
    if any(pooled > side for side, pooled in known):
        return False
    dense = hasattr(layer, "pool_size") and set(_strides(layer)) == {1}
    return dense or known != sides or any(pooled < side for side, pooled in known)


def build(model: keras.Model, inputs: Any) -> None:
    """Builds a model that is not built yet, outside of any probe's graph and names."""
    if not all(layer.built for layer in model._flatten_layers()):
        model(keras.tree.map_structure(_first_one, inputs), training=False)


def _first_one(x: Any) -> Any:
    return x[:1]


def pool_called(name: str, pools: list[Pool]) -> Pool:
    """The one of `pools` whose maps a probe returns under `name`."""
    names = {pool.name: pool for pool in pools}
    return names.get(name) or names[name.rpartition("_")[0]]


def run_once(
    model: keras.Model, pools: list[Pool], inputs: Any, kind: type[Probe] = Probe
) -> tuple[Probe, Any]:
    """A probe of a `kind` of those `pools` whose maps can be read, and its maps.

    Maps that live in an inner graph (of `keras.ops.map`, of rematerialised layers)
    cannot leave it: such layers are left out with a warning.
    """
    build(model, inputs)
    probe = kind(model, pools)
    try:
        return probe, probe.predict_on_batch(inputs)
    except Exception:
        kind(model, []).predict_on_batch(inputs)  # is it the model that fails?
        readable = [pool for pool in pools if _is_readable(kind(model, [pool]), inputs)]
        if len(readable) == len(pools):
            raise
    left_out = [pool.name for pool in pools if pool not in readable]
    warnings.warn(
        "The maps of some layers cannot be read, since they run in an inner graph. "
        f"Left out: {', '.join(left_out)}",
        stacklevel=2,
    )
    probe = kind(model, readable)
    return probe, probe.predict_on_batch(inputs)


def _is_readable(probe: Probe, inputs: Any) -> bool:
    try:
        probe.predict_on_batch(inputs)
    except Exception:
        return False
    return True
