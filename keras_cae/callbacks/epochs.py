"""What the callbacks that log after an epoch have in common."""

import errno
import math
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import keras

from keras_cae import _checks
from keras_cae.callbacks.summaries import EventWriter, drop_from, writable_folder

FREE = 5.0  # How many seconds of logging no training is too short for.


class EpochLogger(keras.callbacks.Callback):
    """Logs after every epoch, or every so many, and keeps within a budget.

    A subclass says what to log in `prepare(model)`, called when training begins, and
    `log_epoch(writer, step)`. How long that took is logged too, as the scalar
    `<below>/seconds`.

    Steps are epochs, counted from 0 as Keras' own callback does. `fit` from
    `initial_epoch` on goes on where an earlier one stopped, in the place of what that
    logged for the same steps; a second `fit` of this callback from epoch 0 counts on.

    A callback that takes more than `max_time` of the training's time logs less often,
    and says so once. Tracing in the first logged epoch does not count, and the first 5
    seconds are free, so that a short training is seen whole. Where the
    event file cannot be written any more, or would grow beyond `max_bytes`, training
    goes on without further logging, with one warning. The file stays readable.

    Args:
        log_dir: The folder of the run.
        below: The subfolder of `log_dir` for the events of this callback.
        every: Log every so many epochs, starting with the first.
        max_bytes: How large an event file may grow, in bytes; each `fit` starts a new
            one. None means without bounds.
        max_time: How much of the time of training logging may take, as a share above
            0; the first 5 seconds are free. None means any.

    Raises:
        ValueError: An argument breaks its rule.
        OSError: `log_dir` cannot be made or written to when training begins.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        below: str,
        *,
        every: int = 1,
        max_bytes: int | None = None,
        max_time: float | None = 0.05,
    ) -> None:
        super().__init__()
        self.log_dir = log_dir
        self.below = below
        self._folder = writable_folder("log_dir", log_dir, below)
        self.every = _checks.positive_int("every", every)
        if max_bytes is not None:
            max_bytes = _checks.positive_int("max_bytes", max_bytes)
        self.max_bytes = max_bytes
        self.max_time = _max_time(max_time)
        self._writer: EventWriter | None = None
        self._next_step = 0  # Behind the last one that was logged.
        self._has_warned = False

    def prepare(self, model: keras.Model) -> None:
        """Makes ready to log `model`; raises where that cannot be done."""
        raise NotImplementedError

    def log_epoch(self, writer: EventWriter, step: int) -> None:
        """Adds the events of one epoch to `writer`, without flushing it."""
        raise NotImplementedError

    def on_train_begin(self, logs: Any = None) -> None:
        self.on_train_end()  # Closes what an interrupted training left open.
        self.prepare(self.model)
        try:
            self._writer = EventWriter(self._folder)
        except OSError as error:
            if error.errno == errno.ENOSPC:  # the fault of the disk, not of `log_dir`
                self._stop(f"{self._folder} cannot be written to ({error.strerror})")
            else:
                rule = "`log_dir` must be a folder that can be written to"
                raise OSError(error.errno, rule, str(self.log_dir)) from error
        self._offset: int | None = None  # The first epoch tells.
        self._cost: float | None = None
        self._spent = 0.0
        self._due = 0
        self._began = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._writer is None:
            return
        if self._offset is None:
            self._offset = self._next_step if epoch == 0 else 0
            if epoch > 0:
                self._try(drop_from, self._folder, epoch)
        if self._writer and epoch % self.every == 0 and epoch >= self._due:
            trained = time.perf_counter() - self._began
            seconds = self._log(self._writer, epoch + self._offset)
            if self._cost is not None:  # The first time traces and compiles.
                self._spent += seconds
                self._pace(epoch, min(seconds, self._cost), trained)
            self._cost = seconds

    def on_train_end(self, logs: Any = None) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def _log(self, writer: EventWriter, step: int) -> float:
        """Logs an epoch and returns how many seconds that took."""
        began = time.perf_counter()
        # With JAX, asking for the model is what brings its weights up to date.
        if self.model is not None:
            self.log_epoch(writer, step)
        tag = f"{self.below}/seconds"
        writer.scalar(tag, time.perf_counter() - began, step, "Spent on logging.")
        size = writer.written + writer.waiting
        if self.max_bytes is not None and size > self.max_bytes:
            self._stop(f"its event file would pass max_bytes={self.max_bytes}")
        else:
            self._try(writer.flush)
        self._next_step = step + 1
        return time.perf_counter() - began

    def _try(self, action: Callable[..., None], *args: Any) -> None:
        """Does what changes files; where they cannot be written, logging ends."""
        try:
            action(*args)
        except OSError as error:
            self._stop(f"{self._folder} cannot be written to ({error.strerror})")

    def _stop(self, reason: str) -> None:
        self.on_train_end()
        warnings.warn(
            f"{type(self).__name__} logs no more, since {reason}. Training goes on.",
            stacklevel=2,
        )

    def _pace(self, epoch: int, cost: float, trained: float) -> None:
        """Puts off the next logging until training has earned what this one took.

        `cost` is the lower of the last two, so that one hiccup changes nothing.
        """
        if self.max_time is None or self._spent < FREE:
            return
        epochs = math.ceil(cost / self.max_time / max(trained, 1e-9))
        self._due = epoch + epochs
        if epochs > self.every and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"{type(self).__name__} takes {cost:.2g} s, which is more than "
                f"max_time={self.max_time:g} of the {trained:.2g} s of an epoch: it "
                "logs less often from here on.",
                stacklevel=2,
            )


def _max_time(value: Any) -> float | None:
    if value is None:
        return None
    if not _checks.is_real(value) or not value > 0:
        raise ValueError(
            "`max_time` must be None or a share of the time of training above 0. "
            f"Received: max_time={value!r}"
        )
    return float(value)
