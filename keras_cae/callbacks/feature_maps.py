"""The maps before and after every pooling layer, in TensorBoard."""

import os
from typing import Any

import keras

from keras_cae import _checks
from keras_cae.callbacks import tiles
from keras_cae.callbacks.epochs import EpochLogger
from keras_cae.callbacks.probe import Pool, Probe, find_pools, run_once
from keras_cae.callbacks.samples import first_samples, shapes
from keras_cae.callbacks.summaries import EventWriter


class PooledFeatureMaps(EpochLogger):
    """Shows what every pooling layer of a Keras model takes in and gives out.

    Pooling layers are found in any model, nested ones too: all layers with a pool size
    and convolutions with a stride above 1, provided that they make the grid smaller
    (global pooling leaves no maps). After an epoch the first samples of `inputs` run
    through the model once, as in inference, and for each pooling TensorBoard gets

    - the images `<layer>/before` and `<layer>/after`, with a row a sample and a column
      a channel. A channel goes from black, the lowest of its values, to white, the
      highest. What is not a number shows as a checkerboard. A sequence is drawn as a
      band, a volume as its middle slice;
    - the histograms `<layer>/before/histogram` and `<layer>/after/histogram`.

    `<layer>` is the path of layer names from the model. A block that lists its parts as
    `.layers`, as EncoderBlock does, gives its own name to its pooling, and the second
    call of a shared layer is `<layer>_2`. Steps are epochs, counted from 0 as Keras'
    own callback does. TensorBoard shows 10 steps of an image, unless it is started with
    `--samples_per_plugin images=0`. A model that is not built yet is built on `inputs`.

    Args:
        log_dir: The folder of the run. Events go into its subfolder `feature_maps`.
        inputs: What to look at: an array, a nest of arrays for a model with several
            inputs, or a data set, whose first batch is taken (without its target).
        layers: The layers to show: a list of names, paths or layers. None means every
            pooling layer; a block or model stands for the poolings inside it.
        every: Show every so many epochs, starting with the first.
        max_samples: How many samples to show at most.
        max_channels: How many channels to draw at most. Histograms count all.

    Raises:
        ValueError: An argument breaks its rule; or, at the start of the training, the
            model does not run on `inputs`, or has no such pooling layer.
        OSError: `log_dir` cannot be made or written to.

    Example:
        >>> images = keras.random.uniform((8, 28, 28, 1))
        >>> maps = PooledFeatureMaps("runs/digits", images, every=5)
        >>> model.fit(images, images, epochs=20, callbacks=[maps])  # doctest: +SKIP
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        inputs: Any,
        *,
        layers: list[str | keras.Layer] | None = None,
        every: int = 1,
        max_samples: int = 4,
        max_channels: int = 16,
        max_bytes: int | None = None,
        max_time: float | None = 0.05,
    ) -> None:
        super().__init__(
            log_dir, "feature_maps", every=every, max_bytes=max_bytes, max_time=max_time
        )
        self.max_samples = _checks.positive_int("max_samples", max_samples)
        self.max_channels = _checks.positive_int("max_channels", max_channels)
        self.layers = _layers(layers)
        self.inputs = first_samples(inputs, self.max_samples)
        self._probe: Probe | None = None

    def prepare(self, model: keras.Model) -> None:
        if not _suits(self.inputs, model):
            raise _unsuitable(self.inputs, model)
        try:
            probe, maps = run_once(model, find_pools(model), self.inputs)
        except Exception as error:
            raise _unsuitable(self.inputs, model) from error
        pools = [pool for pool in probe.pools if pool.name in maps]
        if not pools:
            raise ValueError(
                "PooledFeatureMaps needs a model with a layer that makes the grid "
                f"smaller, but none was found. Received: model={model.name!r}"
            )
        if self.layers is not None:
            probe = Probe(model, _chosen(pools, self.layers))
        self._probe = probe

    def log_epoch(self, writer: EventWriter, step: int) -> None:
        for name, maps in self._probe.predict_on_batch(self.inputs).items():
            self._write(writer, name, maps, step)

    def on_train_end(self, logs: Any = None) -> None:
        super().on_train_end(logs)
        self._probe = None

    def _write(self, writer: EventWriter, name: str, maps: Any, step: int) -> None:
        before, after = maps
        size = tiles.tile_size(before.shape[1:-1])
        for tag, x in ((f"{name}/before", before), (f"{name}/after", after)):
            shown = x[..., : self.max_channels]
            about = (
                f"Rows: {len(shown)} samples. Columns: the first {shown.shape[-1]} of "
                f"{x.shape[-1]} channels. Grid: {' x '.join(map(str, x.shape[1:-1]))}."
            )
            writer.image(tag, tiles.tile(shown, size), step, about)
            writer.histogram(f"{tag}/histogram", x, step)


def _suits(inputs: Any, model: keras.Model) -> bool:
    """Whether the shapes agree, where model and inputs are a single array."""
    asked, given = getattr(model, "inputs", None) or [], keras.tree.flatten(inputs)
    if len(asked) != 1 or len(given) != 1 or given[0].ndim != len(asked[0].shape):
        return True  # Keras may still adapt them, or say what is wrong.
    sides = zip(asked[0].shape[1:], given[0].shape[1:], strict=True)
    return all(side in (None, found) for side, found in sides)


def _unsuitable(inputs: Any, model: keras.Model) -> ValueError:
    asked = getattr(model, "input_shape", "that its layers ask for")
    return ValueError(
        f"`inputs` must suit the model, which takes the shape {asked}. "
        f"Received: inputs of shape {shapes(inputs)}"
    )


def _layers(layers: Any) -> list[str | keras.Layer] | None:
    if layers is None:
        return None
    kinds = (str, keras.Layer)
    named = isinstance(layers, (list, tuple)) and len(layers) > 0
    if not named or not all(isinstance(layer, kinds) for layer in layers):
        raise ValueError(
            "`layers` must be None or a list of names or layers, at least one. "
            f"Received: layers={layers!r}"
        )
    return list(layers)


def _chosen(pools: list[Pool], layers: list[str | keras.Layer]) -> list[Pool]:
    for layer in layers:
        if not any(_means(layer, pool) for pool in pools):
            raise ValueError(
                "`layers` must name pooling layers of the model, which are "
                f"{[pool.name for pool in pools]}. Received: layers={layers!r}, with "
                f"no pooling layer at {layer!r}"
            )
    return [pool for pool in pools if any(_means(layer, pool) for layer in layers)]


def _means(layer: str | keras.Layer, pool: Pool) -> bool:
    if isinstance(layer, str):
        return layer in (pool.name, pool.name.rpartition("/")[-1], pool.layer.name)
    return pool.layer in layer._flatten_layers()
