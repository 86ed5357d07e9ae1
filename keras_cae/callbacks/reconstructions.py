"""What an autoencoder makes of its inputs, in TensorBoard."""

import logging
import os
from typing import Any

import keras
import numpy as np

from keras_cae import _checks
from keras_cae.callbacks import drawing, panels
from keras_cae.callbacks.batches import first_pairs
from keras_cae.callbacks.epochs import EpochLogger
from keras_cae.callbacks.forward import Outputs, channels_first, run
from keras_cae.callbacks.probe import build
from keras_cae.callbacks.quality import psnr, ssim
from keras_cae.callbacks.samples import shapes
from keras_cae.callbacks.summaries import EventWriter

FLAT = 0.01  # Below this share of the variance of the targets, outputs are constant.

PSNR = "In dB, more is better: 20 is a mean squared error of 1 % of the squared peak."
SSIM = "Likeness of structure: 1 for equal images, about 0 for unrelated ones."

_log = logging.getLogger(__name__)


class Reconstructions(EpochLogger):
    """Shows inputs, their reconstructions and where these are wrong.

    Works for any Keras model whose output has the shape of its input, or of the target
    that the data set gives. After an epoch the samples run through the model as in
    inference, and TensorBoard gets

    - the images `reconstructions/worst` and `reconstructions/typical`: the samples with
      the largest mean squared error, and those in the middle, each under `#` and its
      index in `inputs`. Below each other stand the input, the target where it is not
      the input, the reconstruction and the error, that is the absolute difference to
      the target, averaged over the channels. All have one colour scale, which is drawn
      below them, and which is the same in every epoch; images of three channels keep
      their colours. What is not a number shows as a checkerboard. A volume shows its
      middle slice, a sequence or a vector is drawn as a curve;
    - the scalars `reconstructions/psnr`, in dB, and for images `reconstructions/ssim`,
      averaged over the samples. Their peak value is 1 for targets in [0, 1], otherwise
      the difference of the highest and the lowest target.

    Reconstructions that collapse, to one output for all samples or to outputs without
    any contrast, are warned of in the log of `keras_cae.callbacks.reconstructions`.

    Args:
        log_dir: The folder of the run. Events go into its subfolder `reconstructions`.
        inputs: What to reconstruct: an array, or a data set of inputs or of (input,
            target) pairs, of which the first batches are taken.
        every: Log every so many epochs, starting with the first.
        max_samples: How many samples to reconstruct at most.
        max_shown: How many of them a picture shows at most.
        max_bytes: How large an event file may grow, in bytes. None means without
            bounds.
        max_time: How much of the time of training logging may take, as a share above
            0; the first 5 seconds are free. None means any.

    Raises:
        ValueError: An argument breaks its rule; or, at the start of the training, the
            model does not run on `inputs`, or returns another shape.
        OSError: `log_dir` cannot be made or written to.

    Example:
        >>> images = keras.random.uniform((8, 28, 28, 1))
        >>> pictures = Reconstructions("runs/digits", images, every=5)
        >>> model.fit(images, images, epochs=20, callbacks=[pictures])
        ... # doctest: +SKIP
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        inputs: Any,
        *,
        every: int = 1,
        max_samples: int = 64,
        max_shown: int = 4,
        max_bytes: int | None = None,
        max_time: float | None = 0.05,
    ) -> None:
        super().__init__(
            log_dir,
            "reconstructions",
            every=every,
            max_bytes=max_bytes,
            max_time=max_time,
        )
        self.max_samples = _checks.positive_int("max_samples", max_samples)
        self.max_shown = _checks.positive_int("max_shown", max_shown)
        self.inputs, self.targets = first_pairs(inputs, self.max_samples)
        self._forward: Outputs | None = None
        self._is_collapsed = False

    def prepare(self, model: keras.Model) -> None:
        self._forward = Outputs(model)
        try:
            build(model, self.inputs)
            outputs = run(self._forward, self.inputs)
        except Exception as error:
            raise ValueError(
                "`inputs` must suit the model. Received: inputs of shape "
                f"{shapes(self.inputs)} for model={model.name!r}: {error}"
            ) from error
        suited = self._suited(outputs.shape)
        if suited is None:
            raise ValueError(
                "Reconstructions needs a model whose output has the shape of its input "
                f"or target, of 2 to 5 axes. Received: model={model.name!r} with "
                f"outputs of shape {outputs.shape} for inputs of shape "
                f"{shapes(self.inputs)}"
            )
        self._first = channels_first(model)
        self._targets = self._channels_last(suited)
        self._low, self._high = panels.value_range(self._targets)

    def log_epoch(self, writer: EventWriter, step: int) -> None:
        outputs = self._channels_last(run(self._forward, self.inputs))
        self._warn_of_collapse(outputs)
        peak = self._high - self._low
        decibels = psnr(self._targets, outputs, peak)
        writer.scalar("reconstructions/psnr", decibels.mean(), step, PSNR)
        similar = ssim(self._targets, outputs, peak)
        if similar is not None:
            writer.scalar("reconstructions/ssim", similar.mean(), step, SSIM)
        order = np.argsort(-np.nan_to_num(decibels, nan=-np.inf), kind="stable")
        shown = min(self.max_shown, len(order))
        middle = (len(order) - shown) // 2
        for name, which, indices in (
            ("worst", "the largest errors", order[::-1][:shown]),
            ("typical", "errors in the middle", order[middle : middle + shown]),
        ):
            picture = self._picture(outputs, indices, decibels)
            about = f"{shown} of {len(order)} samples, those with {which}."
            writer.image(f"reconstructions/{name}", picture, step, about)

    def on_train_end(self, logs: Any = None) -> None:
        super().on_train_end(logs)
        self._forward = None

    def _suited(self, shape: tuple[int, ...]) -> Any:
        """The targets of this shape, or else the inputs; None where neither has it."""
        for x in (self.targets, *keras.tree.flatten(self.inputs)):
            if x is not None and x.shape == shape and 2 <= x.ndim <= 5:
                return x
        return None

    def _channels_last(self, x: Any) -> Any:
        """The samples with their channels last; vectors are sequences of one."""
        if x.ndim == 2:
            return x[..., None]
        return np.moveaxis(x, 1, -1) if self._first else x

    def _rows(self, outputs: Any) -> dict[str, Any]:
        """What stands below each other, with channels last."""
        rows = {"target": self._targets, "reconstruction": outputs}
        inputs = keras.tree.flatten(self.inputs)
        given = self._channels_last(inputs[0])
        if len(inputs) > 1 or given.ndim != outputs.ndim:
            return rows
        if np.array_equal(given, self._targets, equal_nan=True):
            return {"input": given, "reconstruction": outputs}
        return {"input": given, **rows}

    def _picture(self, outputs: Any, indices: Any, decibels: Any) -> Any:
        size = panels.panel_size(outputs.shape[1:-1])
        with np.errstate(invalid="ignore", over="ignore"):
            errors = np.abs(outputs - self._targets).mean(axis=-1, keepdims=True)
        low, high = self._low, self._high
        rows = {
            name: panels.as_panels(x[indices], low, high, size)
            for name, x in self._rows(outputs).items()
        }
        rows["error"] = panels.as_panels(errors[indices], 0, high - low, size)
        heads = [(f"#{index}", f"{decibels[index]:.1f} dB") for index in indices]
        scales = {"values": (low, high), "error": (0, high - low)}
        if panels.is_colour(outputs):
            del scales["values"]
        draw = panels.heights if outputs.ndim == 3 else panels.scale_bars
        return drawing.column([panels.table(rows, heads), draw(scales)], gap=8)

    def _warn_of_collapse(self, outputs: Any) -> None:
        collapse = _collapse(self._targets, outputs)
        if collapse and not self._is_collapsed:
            _log.warning("The reconstructions have collapsed: %s.", collapse)
        self._is_collapsed = collapse is not None


def _collapse(targets: Any, outputs: Any) -> str | None:
    """In which way the outputs are constant where the targets are not."""
    if not np.isfinite(outputs).all():
        return "some of their values are not finite numbers"
    cells = tuple(range(1, targets.ndim))
    for way, axes in (
        ("all samples give one output", (0,)),
        ("they are without contrast", cells),
    ):
        varied, found = np.var(targets, axis=axes), np.var(outputs, axis=axes)
        if found.mean() < FLAT * varied.mean():
            return way
    return None
