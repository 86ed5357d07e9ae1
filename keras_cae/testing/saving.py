"""What a layer must be after saving and loading: the same."""

import pathlib
import tempfile
from typing import Any

import keras

from keras_cae.testing import arrays, backends
from keras_cae.testing.trials import Trial, call_with

_PYTHON_OPS = {"EagerPyFunc", "PyFunc", "PyFuncStateless"}


@keras.saving.register_keras_serializable(package="keras_cae")
class Holder(keras.Model):
    """A subclassed model around one layer, with a `build` that knows nothing of it.

    On loading, Keras then builds the layer by its own `build` alone.
    """

    def __init__(
        self, layer: keras.layers.Layer, arguments: dict[str, Any], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.layer = layer
        self.arguments = arguments

    def build(self, input_shape: Any) -> None:
        self.built = True

    def call(self, tensors, training=None):
        return call_with(self.layer, self.arguments, tensors, training=training)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "layer": keras.saving.serialize_keras_object(self.layer),
            "arguments": keras.saving.serialize_keras_object(self.arguments),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Holder":
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("layer", "arguments")
        }
        return cls(**config | parts)


def keras_file(trial: Trial) -> None:
    """A functional model with the layer gives the same after `.keras`."""
    _require_reload(trial, trial.unsized_model)


def subclassed_model(trial: Trial) -> None:
    """So does a subclassed model, which has no graph to rebuild the layer from."""
    model = Holder(trial.fresh(), trial.arguments)
    model(trial.tensors, training=False)
    model.layer.set_weights(trial.weights)
    _require_reload(trial, model)


def _require_reload(trial: Trial, model: keras.Model) -> None:
    layer = type(trial.layer)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        model.save(path)
        loaded = keras.saving.load_model(
            path, custom_objects={layer.__name__: layer}, compile=False
        )
    got = arrays.values(loaded(trial.tensors, training=False))
    arrays.require_equal(got, trial.expected, "after reload")


def saved_model(trial: Trial) -> bool | None:
    """So does a SavedModel, without any Python code, on every size."""
    if not backends.is_tensorflow():
        return False
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        trial.unsized_model.export(folder, verbose=False)
        loaded = tf.saved_model.load(folder)
        _require_no_python(loaded.signatures["serving_default"].graph.as_graph_def())
        for tensors, expected in filter(
            None, ((trial.tensors, trial.expected), trial.elsewhere)
        ):
            got = loaded.serve({k: tf.convert_to_tensor(v) for k, v in tensors.items()})
            arrays.require_equal(arrays.values(got), expected, "loaded")
    return None


def _require_no_python(graph: Any) -> None:
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    found = sorted({node.op for node in nodes} & _PYTHON_OPS)
    if found:
        raise AssertionError(f"the graph calls back into Python: {found}")
