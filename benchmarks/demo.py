"""The demo: its data, and its training with and without callbacks."""

import functools
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow_datasets as tfds

import keras_cae as cae
from benchmarks.rows import Row
from benchmarks.timing import Effort, Spread, here, interleave
from keras_cae import __main__ as command_line

EPOCH = 60_000  # images
BATCH, STEPS = 64, 30  # of the training that is timed in its stead


def run(effort: Effort, note: Callable[[str], None]) -> Iterator[Row]:
    """The data and the callbacks."""
    tfds.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {"batch_size": BATCH, "data_dir": folder}
        train = cae.data.load("digits", "train", **settings)
        test = cae.data.load("digits", "test", **settings)
        model = recipe(train)
        yield from speeds(model, train, _callbacks(folder, test), effort)


def _callbacks(folder: str, test: Any) -> dict[str, keras.callbacks.Callback]:
    """Those of the demo, without the budget that would make them skip epochs."""
    kinds = (
        cae.callbacks.PooledFeatureMaps,
        cae.callbacks.Reconstructions,
        cae.callbacks.LatentSpace,
    )
    return {kind.__name__: kind(folder, test, max_time=None) for kind in kinds}


def recipe(train: Any, epochs: int = 20) -> keras.Model:
    """The model that `keras-cae train` makes."""
    options = command_line._parser().parse_args(["train", "--epochs", str(epochs)])
    return command_line._compiled(options, train)


def speeds(
    model: keras.Model, train: Any, callbacks: dict[str, Any], effort: Effort
) -> Iterator[Row]:
    """The data and the callbacks, each beside an epoch of training."""
    for callback in callbacks.values():
        callback.set_model(model)
        callback.on_train_begin()
    part = train.take(STEPS)
    parties = {
        "data": here(lambda: [None for _ in train]),
        "part": here(lambda: model.fit(part, verbose=0, shuffle=False)),
    }
    for name, callback in callbacks.items():
        parties[name] = here(functools.partial(callback.on_epoch_end, 0))
    times = interleave(parties, effort)
    for callback in callbacks.values():
        callback.on_train_end()
    fed = len(train) * BATCH / times["data"]
    trained = STEPS * BATCH / times["part"]
    yield Row(
        "data.load of the digits",
        float(np.median(fed)),
        "training of the demo model",
        float(np.median(trained)),
        "images/s",
        Spread.of(fed / trained),
        "x the images",
        at_least=10.0,
    )
    epoch = EPOCH / trained
    maps = times["PooledFeatureMaps"]
    yield _added("PooledFeatureMaps", maps, epoch, at_most=3.0)
    together = sum(times[name] for name in callbacks)
    yield _added("the demo's three callbacks", together, epoch, at_most=5.0)


def _added(name: str, seconds: Any, epoch: Any, at_most: float) -> Row:
    """What logging adds to an epoch of training."""
    return Row(
        f"Epoch of {EPOCH:,} images with {name}",
        float(np.median(epoch + seconds)),
        "the same without",
        float(np.median(epoch)),
        "s",
        Spread.of(100 * seconds / epoch),
        "% more",
        at_most=at_most,
    )
