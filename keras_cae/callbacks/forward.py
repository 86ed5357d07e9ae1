"""What a model, or a layer in it, returns for a few samples."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cae.callbacks.probe import Pool, Probe, recording

BATCH = 32


class Outputs(Probe):
    """Runs a model as in inference; returns its first output, or that of a layer.

    The output is float32. Of a dict it is the entry `latent` where there is one.

    Args:
        watched: The model.
        layer: A layer somewhere in it, whose first call counts; None for the model.
    """

    def __init__(self, watched: keras.Model, layer: keras.Layer | None = None) -> None:
        super().__init__(watched, [Pool("layer", layer)] if layer else [])

    def call(self, inputs):
        if not self.pools:
            return _first(self.watched(inputs, training=False))
        records: list[tuple[Pool, Any, Any]] = []
        with recording(self.pools[0], records):
            self.watched(inputs, training=False)
        if not records:
            name = self.pools[0].layer.name
            raise ValueError(
                f"`layer` must be one that the model calls. Received: layer={name!r}"
            )
        return _first(records[0][2])


def _first(outputs: Any) -> Any:
    if isinstance(outputs, dict) and "latent" in outputs:
        outputs = outputs["latent"]
    return ops.cast(keras.tree.flatten(outputs)[0], "float32")


def run(forward: keras.Model, inputs: Any) -> Any:
    """What `forward` returns for all samples, as an array.

    They run in batches of one size, so that nothing is traced twice.
    """
    count = len(keras.tree.flatten(inputs)[0])
    size = min(BATCH, count)
    batches = []
    for start in range(0, count, size):
        chosen = np.arange(start, start + size) % count

        def batch(x, chosen=chosen):
            return x[chosen]

        inputs_now = keras.tree.map_structure(batch, inputs)
        batches.append(forward.predict_on_batch(inputs_now))
    return np.concatenate(batches)[:count]


def channels_first(model: keras.Layer, last: bool = False) -> bool:
    """Whether the first layer of a model, or its last, that says so has that format."""
    layers = model._flatten_layers() if isinstance(model, keras.Layer) else []
    formats = [getattr(layer, "data_format", None) for layer in layers]
    formats = [value for value in formats if value]
    if not formats:
        return keras.config.image_data_format() == "channels_first"
    return formats[-1 if last else 0] == "channels_first"
