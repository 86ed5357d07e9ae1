"""A layer on trial: what it is called with, and copies of it with the same weights."""

import copy
import dataclasses
import functools
import inspect
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_cae.testing import arrays, backends


@dataclasses.dataclass(frozen=True)
class Trial:
    """A layer and its call: `arguments` has "<name>" where the tensor `name` goes.

    The given layer is called, which builds it, and never changed. Promises are checked
    on copies made from its config. These share weights that differ a little from the
    first values of the layer, so that lost weights show.
    """

    layer: keras.layers.Layer
    tensors: arrays.Arrays
    arguments: dict[str, Any]

    @classmethod
    def of(cls, layer: keras.layers.Layer, inputs: Any) -> "Trial":
        """The trial of a layer on an array, or on its call arguments by name."""
        if not isinstance(layer, keras.layers.Layer):
            raise ValueError(f"`layer` must be a Keras layer. Received: {layer!r}")
        if layer.compute_dtype in ("float16", "bfloat16"):
            raise ValueError(
                "`layer` must compute in float32; the kit itself makes it mixed. "
                f"Received: {layer!r} with {layer.compute_dtype}"
            )
        order = list(inspect.signature(layer.call).parameters)
        given = inputs if isinstance(inputs, dict) else {order[0]: inputs}
        tensors: arrays.Arrays = {}
        arguments = {}
        for name in (name for name in dict.fromkeys([*order, *given]) if name in given):
            value = given[name]
            found = dict(_tensors_of(name, value))
            slots = [
                f"<{key}>" if key in found else leaf
                for key, leaf in _named_leaves(name, value)
            ]
            tensors |= found
            arguments[name] = keras.tree.pack_sequence_as(value, slots)
        if {len(array) < 2 for array in tensors.values()} != {False}:
            raise ValueError(
                "`inputs` must hold arrays with two samples or more. "
                f"Received: shapes { {k: v.shape for k, v in tensors.items()} }"
            )
        return cls(layer, tensors, arguments)

    def call(self, layer: Any, tensors: dict[str, Any], **kwargs: Any) -> Any:
        """Calls a layer, or a function in its place, with the given tensors."""
        return call_with(layer, self.arguments, tensors, **kwargs)

    def outputs(
        self, layer: Any, tensors: arrays.Arrays | None = None, **kwargs: Any
    ) -> list[np.ndarray]:
        """What a layer gives, as arrays; at inference if nothing else is said."""
        tensors = self.tensors if tensors is None else tensors
        return arrays.values(self.call(layer, tensors, **{"training": False, **kwargs}))

    def fresh(self, **changes: Any) -> keras.layers.Layer:
        """A new layer from the config, with other settings, also in its sub-layers."""
        config = copy.deepcopy(self.layer.get_config())
        for key, value in changes.items():
            config = _with_setting(config, key, config.get(key), value)
        return type(self.layer).from_config(config)

    def clone(
        self, tensors: arrays.Arrays | None = None, **changes: Any
    ) -> keras.layers.Layer:
        """A fresh layer, built by a call with `tensors`, with the shared weights."""
        layer = self.fresh(**changes)
        try:
            self.outputs(layer, tensors)
        except Exception as error:
            if not (layer.built and backends.lacks_kernel(error)):
                raise
        layer.set_weights(self.weights)
        return layer

    @functools.cached_property
    def weights(self) -> list[np.ndarray]:
        """The first weights of the layer, floats moved a little."""
        self.outputs(self.layer)
        random = np.random.default_rng(0)
        return [
            (w + random.uniform(0.02, 0.1, w.shape)).astype(w.dtype)
            if arrays.is_float(w)
            else w
            for w in self.layer.get_weights()
        ]

    @functools.cached_property
    def reference(self) -> keras.layers.Layer:
        """The copy to which others are compared."""
        return self.clone()

    @functools.cached_property
    def expected(self) -> list[np.ndarray]:
        """The outputs of the reference."""
        return self.outputs(self.reference)

    @functools.cached_property
    def elsewhere(self) -> tuple[arrays.Arrays, list[np.ndarray]] | None:
        """The tensors on another grid that the layer takes, and the outputs there."""
        for tensors in arrays.other_sizes(self.tensors, self.channels_first):
            try:
                return tensors, self.outputs(self.clone(tensors), tensors)
            except Exception:  # a layer may refuse a grid, whatever it raises
                continue
        return None

    @property
    def channels_first(self) -> bool:
        """Whether the second axis holds the channels, not the last one."""
        return getattr(self.layer, "data_format", None) == "channels_first"

    def keras_tensors(self, known_sizes: bool) -> dict[str, Any]:
        """Inputs of a functional model; the batch is unknown, the grid on request."""
        return {
            name: keras.Input(
                batch_shape=self._shape(array, known_sizes),
                dtype=keras.backend.standardize_dtype(array.dtype),
                name=name,
            )
            for name, array in self.tensors.items()
        }

    def _shape(self, array: np.ndarray, known_sizes: bool) -> tuple[int | None, ...]:
        grid = () if known_sizes else arrays.grid_axes(array, self.channels_first)
        return tuple(None if i in (0, *grid) else n for i, n in enumerate(array.shape))

    def symbolic(self, known_sizes: bool) -> list[Any]:
        """What a new layer promises for KerasTensors."""
        outputs = self.call(self.fresh(), self.keras_tensors(known_sizes))
        return keras.tree.flatten(outputs)

    @functools.cached_property
    def unsized_model(self) -> keras.Model:
        """A functional model of a copy with unknown sizes, for all who need one."""
        inputs = self.keras_tensors(known_sizes=False)
        layer = self.fresh()
        model = keras.Model(inputs, self.call(layer, inputs))
        layer.set_weights(self.weights)
        return model


def call_with(
    layer: Any, arguments: dict[str, Any], tensors: dict[str, Any], **kwargs: Any
) -> Any:
    """Calls a layer with `arguments` in which each "<name>" is a tensor."""
    first, *others = (
        (name, keras.tree.map_structure(lambda leaf: _filled(leaf, tensors), value))
        for name, value in arguments.items()
    )
    return layer(first[1], **dict(others), **kwargs)


def _named_leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The leaves of a call argument; a list of two gets `name_0` and `name_1`."""
    leaves = keras.tree.flatten(value)
    for index, leaf in enumerate(leaves):
        yield (name if leaf is value else f"{name}_{index}"), leaf


def _tensors_of(name: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of a call argument as arrays, float64 as Keras takes it."""
    for key, leaf in _named_leaves(name, value):
        if keras.ops.is_tensor(leaf):
            leaf = keras.ops.convert_to_numpy(leaf)
        if isinstance(leaf, np.ndarray) and leaf.ndim:
            yield key, leaf.astype("float32") if leaf.dtype == "float64" else leaf


def _filled(leaf: Any, tensors: dict[str, Any]) -> Any:
    is_slot = isinstance(leaf, str) and leaf.startswith("<")
    return tensors[leaf[1:-1]] if is_slot else leaf


def _with_setting(config: Any, key: str, old: Any, new: Any) -> Any:
    """A config in which every `key` that was `old` is `new`, at any depth."""
    if isinstance(config, (list, tuple)):
        return type(config)(_with_setting(value, key, old, new) for value in config)
    if not isinstance(config, dict):
        return config
    return {
        name: new
        if name == key and value == old
        else _with_setting(value, key, old, new)
        for name, value in config.items()
    }
