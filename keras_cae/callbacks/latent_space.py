"""The latents of an encoder, in TensorBoard's projector and in figures."""

import logging
import os
from typing import Any

import keras
import numpy as np

from keras_cae import _checks
from keras_cae.callbacks import latent_maps, panels, units
from keras_cae.callbacks.batches import first_pairs
from keras_cae.callbacks.epochs import EpochLogger
from keras_cae.callbacks.forward import BATCH, Outputs, channels_first, run
from keras_cae.callbacks.probe import build
from keras_cae.callbacks.projector import write_projector, write_vectors
from keras_cae.callbacks.samples import shapes
from keras_cae.callbacks.summaries import EventWriter

CORRELATED = 512  # Among more units no correlations are taken.
PROJECTED = 1024  # How many units the projector has at most.
HELD = 2**24  # How many numbers all latents have at most.

_log = logging.getLogger(__name__)


class LatentSpace(EpochLogger):
    """Shows where an encoder puts its inputs, and what each unit of the latent does.

    After an epoch the samples run through the encoder as in inference, and TensorBoard
    gets

    - a projector, with a vector, a label and a small picture for each sample. Its files
      lie beside the events and are those of the last epoch that was logged; TensorBoard
      reads them once, so restart it to see a later epoch;
    - the image `latent/plane`: the samples along the two directions in which the
      latents vary most, but for those that would cover another one;
    - the scalar `latent/active_units`: how many units have a variance above 0.01 over
      the samples; the histograms `latent/values` and `latent/variances`;
    - the image `latent/correlations` of the units that vary most, and the scalar
      `latent/correlation`, the mean absolute correlation of two units; both only for
      latents of at most 512 units.

    A unit is a channel. A latent with a grid is averaged over it for the projector and
    the plane; variances and correlations are taken cell by cell. Of more than 1024
    units the projector gets those that vary most.

    Args:
        log_dir: The folder of the run. Events go into its subfolder `latent_space`.
        inputs: What to encode: an array, a nest of arrays for a model with several
            inputs, or a data set, of which the first batches are taken.
        labels: One for each of `inputs`: numbers or strings. None means the targets of
            the data set where these are whole numbers or strings, one a sample, and
            otherwise no labels.
        layer: The layer whose output is the latent, by name or itself, or an encoder
            model of the same inputs. None means `model.encoder`.
        every: Log every so many epochs, starting with the first.
        max_samples: How many samples to encode at most; fewer where their latents would
            have more than 16 million numbers.
        max_bytes: How large an event file may grow, in bytes. None means without
            bounds.
        max_time: How much of the time of training logging may take, as a share above
            0; the first 5 seconds are free. None means any.

    Raises:
        ValueError: An argument breaks its rule; or, at the start of the training, the
            model does not run on `inputs`, or it cannot be told which layer gives the
            latent.
        OSError: `log_dir` cannot be made or written to.

    Example:
        >>> images = keras.random.uniform((8, 28, 28, 1))
        >>> latents = LatentSpace("runs/digits", images, labels=range(8))
        >>> model.fit(images, images, epochs=20, callbacks=[latents])
        ... # doctest: +SKIP

    Reference:
        Smilkov et al. (2016), [Embedding projector: interactive visualization and
        interpretation of embeddings](https://arxiv.org/abs/1611.05469).
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        inputs: Any,
        labels: Any = None,
        *,
        layer: str | keras.Layer | None = None,
        every: int = 1,
        max_samples: int = 256,
        max_bytes: int | None = None,
        max_time: float | None = 0.05,
    ) -> None:
        super().__init__(
            log_dir, "latent_space", every=every, max_bytes=max_bytes, max_time=max_time
        )
        self.max_samples = _checks.positive_int("max_samples", max_samples)
        if layer is not None and not isinstance(layer, (str, keras.Layer)):
            raise ValueError(
                "`layer` must be None, the name of a layer, a layer or an encoder "
                f"model. Received: layer={layer!r}"
            )
        self.layer = layer
        self.inputs, targets = first_pairs(inputs, self.max_samples)
        self.labels = _labels(labels, targets, shapes(self.inputs))
        self._forward: Outputs | None = None

    def prepare(self, model: keras.Model) -> None:
        self._forward, encoder = _encoder(model, self.layer)
        try:
            build(model, self.inputs)
            latents = run(self._forward, _head(self.inputs, BATCH))
        except Exception as error:
            raise ValueError(
                "`inputs` must suit the model. Received: inputs of shape "
                f"{shapes(self.inputs)} for model={model.name!r}: {error}"
            ) from error
        self._moves = latents.ndim > 2 and channels_first(encoder, last=True)
        count = max(1, HELD // latents[0].size)
        self._inputs = _head(self.inputs, count)
        self._labels = None if self.labels is None else self.labels[:count]
        self._images = _images(self._inputs, channels_first(model))
        self._has_files = False
        self._warned = False

    def log_epoch(self, writer: EventWriter, step: int) -> None:
        latents = run(self._forward, self._inputs)
        latents = np.moveaxis(latents, 1, -1) if self._moves else latents
        if latents.ndim == 1:
            latents = latents[:, None]
        self._log_units(writer, step, latents)
        vectors = latents.reshape(len(latents), -1, latents.shape[-1]).mean(axis=1)
        if not np.isfinite(vectors).all():
            self._warn("some latents are not finite numbers")
            return
        if self._images is not None:
            plane, drawn = latent_maps.plane(vectors, self._images)
            about = (
                f"{drawn} of {len(vectors)} samples along their first two principal "
                "directions; those that would cover another one are left out."
            )
            writer.image("latent/plane", plane, step, about)
        try:
            most = np.argsort(-units.variances(latents), kind="stable")[:PROJECTED]
            self._write_files(vectors[:, np.sort(most)])
        except OSError as error:
            self._warn(f"its files cannot be written ({error.strerror or error})")

    def on_train_end(self, logs: Any = None) -> None:
        super().on_train_end(logs)
        self._forward = None

    def _log_units(self, writer: EventWriter, step: int, latents: Any) -> None:
        variances, active = units.variances(latents), units.active(latents)
        about = f"Of {len(active)} units; their variance is above {units.ACTIVE}."
        writer.scalar("latent/active_units", int(active.sum()), step, about)
        writer.histogram("latent/values", latents, step)
        writer.histogram("latent/variances", variances, step)
        if len(variances) > CORRELATED:
            return
        correlations = units.correlations(latents)
        mean = units.mean_correlation(correlations)
        about = "The mean absolute correlation of two units."
        writer.scalar("latent/correlation", mean, step, about)
        picture = latent_maps.matrix(correlations, variances)
        drawn = min(len(variances), latent_maps.UNITS)
        about = f"{drawn} of {len(variances)} units, those that vary most."
        writer.image("latent/correlations", picture, step, about)

    def _write_files(self, vectors: Any) -> None:
        write_vectors(self._folder, vectors)
        if not self._has_files:
            write_projector(self._folder, len(vectors), self._labels, self._images)
            self._has_files = True

    def _warn(self, reason: str) -> None:
        if not self._warned:
            _log.warning("The projector is not brought up to date: %s.", reason)
        self._warned = True


def _head(inputs: Any, count: int) -> Any:
    """The first `count` samples."""

    def head(x: Any) -> Any:
        return x[:count]

    return keras.tree.map_structure(head, inputs)


def _labels(labels: Any, targets: Any, shape: Any) -> list[Any] | None:
    count = (shape[0] if isinstance(shape, list) else shape)[0]
    if labels is None:
        return None if targets is None else _flat(targets)
    flat = _flat(np.asarray(labels))
    if flat is None or len(flat) < count:
        raise ValueError(
            "`labels` must be whole numbers or strings, one for each of `inputs`. "
            f"Received: labels={labels!r} for inputs of shape {shape}"
        )
    return flat[:count]


def _flat(labels: Any) -> list[Any] | None:
    """Whole numbers or strings, one a sample, as a list; None for anything else."""
    single = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
    if not single or labels.dtype.kind not in "biuSUO":
        return None
    return labels.reshape(-1).tolist()


def _encoder(model: keras.Model, layer: Any) -> tuple[Outputs, keras.Layer]:
    """What gives the latent, and the layer that says how its axes are ordered."""
    own = getattr(model, "encoder", None)
    if layer is None and isinstance(own, keras.Model):
        return Outputs(own), own
    inside = {inner.name: inner for inner in reversed(model._flatten_layers())}
    if isinstance(layer, str):
        layer = inside.get(layer, layer)
    if isinstance(layer, keras.Layer) and inside.get(layer.name) is layer:
        return Outputs(model, layer), layer
    if isinstance(layer, keras.Model):
        return Outputs(layer), layer
    raise ValueError(
        "`layer` must name a layer of the model, or the model must have an encoder, "
        f"`model.encoder`. Received: layer={layer!r} for model={model.name!r} with the "
        f"layers {[inner.name for inner in model.layers]}"
    )


def _images(inputs: Any, first: bool) -> Any:
    """The samples as pictures in uint8, where they are images or volumes."""
    x = keras.tree.flatten(inputs)[0]
    if x.ndim not in (4, 5):
        return None
    x = np.moveaxis(x, 1, -1) if first else x
    return panels.as_images(x, *panels.value_range(x), shades=panels.greys)
