"""The maps before and after every pooling layer, in TensorBoard."""

import os
from collections.abc import Sequence
from typing import Any

import keras

from keras_cae import _checks
from keras_cae.callbacks import choice, diagnostics, tiles
from keras_cae.callbacks.epochs import EpochLogger
from keras_cae.callbacks.pooling_probe import (
    PoolingProbe,
    dense,
    moved_by_one,
    strides_of,
)
from keras_cae.callbacks.probe import Probe, find_pools, pool_called, run_once
from keras_cae.callbacks.samples import first_samples, shapes
from keras_cae.callbacks.summaries import EventWriter


class PooledFeatureMaps(EpochLogger):
    """Shows what every pooling layer of a Keras model takes in and gives out.

    Pooling layers are found in any model, nested ones too: all layers with a pool size
    and convolutions with a stride above 1, provided that they make the grid smaller
    (global pooling leaves no maps). After an epoch the first samples of `inputs` run
    through the model, as in inference, and for each pooling TensorBoard gets

    - the images `<layer>/before` and `<layer>/after`, with a row a sample and a column
      a channel: those that vary most when first shown, and the same ever after. A
      channel goes from dark violet, the lowest of its values, to yellow, the highest.
      What is not a number shows as a checkerboard. A sequence is drawn as a curve, a
      volume as its middle slice;
    - for max pooling the image `<layer>/switches`: the values before pooling, those
      that it keeps in colour and those that it throws away in grey;
    - the histograms `<layer>/before/histogram` and `<layer>/after/histogram`;
    - the scalars `<layer>/energy_kept` (where channels are pooled by themselves),
      `/dead_channels`, `/sparsity`, `/effective_channels`, `/shift_consistency` and
      `/aliasing` (where the layer has a stride), as `docs/callbacks.md` defines them.

    `<layer>` is the path of layer names from the model. A block that lists its parts as
    `.layers`, as EncoderBlock does, gives its own name to its pooling, and the second
    call of a shared layer is `<layer>_2`. TensorBoard shows 10 steps of an image,
    unless it is started with `--samples_per_plugin images=1000`. A model that is not
    built yet is built on `inputs`.

    Steps are epochs, counted from 0 as Keras' own callback does. A training that goes
    on at `initial_epoch` goes on here, in the place of what had been logged from there
    on; a second `fit` from epoch 0 counts on. The scalar `feature_maps/seconds` tells
    how long the logging itself took. Where the event file cannot be written any more,
    training goes on with a warning, and the file stays readable.

    Args:
        log_dir: The folder of the run. Events go into its subfolder `feature_maps`.
        inputs: What to look at: an array, a nest of arrays for a model with several
            inputs, or a data set, whose first batch is taken (without its target).
        layers: The layers to show, one or a list: names or paths, also as patterns such
            as "encoder_block_*", layers, classes of layers, functions that tell of a
            layer whether it is meant. None means every pooling layer; a block or model
            stands for the poolings inside it.
        every: Show every so many epochs, starting with the first.
        max_samples: How many samples to show at most.
        max_channels: How many channels to draw at most. All else counts all.
        max_bytes: How large the event file of a `fit` may grow, in bytes; logging ends
            before that. None means without bounds.
        max_time: How much of the time of training this may take, as a share above 0;
            beyond that it logs less often. The first 5 seconds are free, tracing does
            not count. None means any.

    Raises:
        ValueError: An argument breaks its rule; or, at the start of the training, the
            model does not run on `inputs`, or has no such pooling layer.
        OSError: `log_dir` cannot be made or written to when training begins.

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
        layers: choice.Choice | Sequence[choice.Choice] | None = None,
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
        self.layers = choice.checked(layers)
        self.inputs = first_samples(inputs, self.max_samples)
        self._probe: Probe | None = None
        self._channels: dict[str, list[int]] = {}

    def prepare(self, model: keras.Model) -> None:
        if not _suits(self.inputs, model):
            raise _unsuitable(self.inputs, model)
        pools = find_pools(model)
        try:
            probe, maps = run_once(model, pools, self.inputs, PoolingProbe)
        except Exception as error:
            raise _unsuitable(self.inputs, model) from error
        pools = [pool for pool in probe.pools if pool.name in maps]
        if not pools:
            raise ValueError(
                "PooledFeatureMaps needs a model with a layer that makes the grid "
                f"smaller, but none was found. Received: model={model.name!r}"
            )
        if self.layers is not None:
            probe = PoolingProbe(model, choice.chosen(model, pools, self.layers))
        self._probe = probe
        formats = [getattr(pool.layer, "data_format", None) for pool in pools]
        data_format = formats[0] or keras.config.image_data_format()
        self._moved = moved_by_one(self.inputs, data_format)
        self._grids = _grids(self.inputs, data_format)

    def log_epoch(self, writer: EventWriter, step: int) -> None:
        if self._probe is None:
            return
        maps = self._probe.predict_on_batch(self.inputs)
        moved = self._probe.predict_on_batch(self._moved)
        for name, seen in maps.items():
            layer = pool_called(name, self._probe.pools).layer
            seen["moved"] = moved[name]["after"]
            self._log_pictures(writer, name, layer, seen, step)
            for number, value in self._diagnose(layer, seen).items():
                about = diagnostics.ABOUT[number]
                writer.scalar(f"{name}/{number}", value, step, about)
            for side in ("before", "after"):
                writer.histogram(f"{name}/{side}/histogram", seen[side], step)

    def on_train_end(self, logs: Any = None) -> None:
        super().on_train_end(logs)
        self._probe = None

    def _log_pictures(
        self, writer: EventWriter, name: str, layer: Any, seen: Any, step: int
    ) -> None:
        before, after = seen["before"], seen["after"]
        size = tiles.tile_size(before.shape[1:-1])
        shown = self._shown(f"{name}/before", before)
        pictures = {"before": (before, shown, None)}
        if "kept" in seen:
            pictures["switches"] = before, shown, seen["kept"]
        if not _pools_channels(layer, before, after):
            shown = self._shown(f"{name}/after", after)
        pictures["after"] = after, shown, None
        for tag, (x, channels, kept) in pictures.items():
            kept = None if kept is None else kept[..., channels]
            pixels = tiles.picture(x[..., channels], size, channels, kept)
            grid = " x ".join(map(str, x.shape[1:-1]))
            about = (
                f"Rows: {len(x)} samples. Columns: {len(channels)} of {x.shape[-1]} "
                f"channels. Grid: {grid}."
            )
            writer.image(f"{name}/{tag}", pixels, step, about)

    def _shown(self, tag: str, maps: Any) -> list[int]:
        """The channels to draw: those that were most active when first drawn."""
        shown = self._channels.get(tag)
        if shown is None or max(shown) >= maps.shape[-1]:
            shown = tiles.active_channels(maps, self.max_channels)
            self._channels[tag] = shown
        return shown

    def _diagnose(self, layer: keras.Layer, seen: Any) -> dict[str, float]:
        before, after = seen["before"], seen["after"]
        values = {
            "dead_channels": diagnostics.dead_channels(after),
            "sparsity": diagnostics.sparsity(after),
            "effective_channels": diagnostics.effective_channels(after),
        }
        if _pools_channels(layer, before, after):
            values["energy_kept"] = diagnostics.energy_kept(before, after)
        if "phases" in seen:
            strides = strides_of(layer, before.ndim - 2)
            maps = dense(seen["phases"], strides, before.shape[1:-1])
            values["aliasing"] = diagnostics.aliasing(maps, strides)
        if len(self._grids) == 1 and len(self._grids[0]) == after.ndim - 2:
            strides = diagnostics.steps(self._grids[0], after.shape[1:-1])
            values["shift_consistency"] = diagnostics.shift_consistency(
                after, seen["moved"], strides
            )
        return values


def _pools_channels(layer: keras.Layer, before: Any, after: Any) -> bool:
    """Whether each channel is pooled by itself."""
    pools = hasattr(layer, "pool_size") and not hasattr(layer, "filters")
    return pools and before.shape[-1] == after.shape[-1]


def _grids(inputs: Any, data_format: str) -> list[tuple[int, ...]]:
    """The different grids of the inputs that have one."""
    grid = slice(2, None) if data_format == "channels_first" else slice(1, -1)
    found = [x.shape[grid] for x in keras.tree.flatten(inputs) if 3 <= x.ndim <= 5]
    return list(dict.fromkeys(found))


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
