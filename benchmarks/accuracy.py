"""The test error that the demo reaches in bfloat16 and in float32."""

import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow_datasets as tfds

import keras_cae as cae
from benchmarks.demo import BATCH, recipe
from benchmarks.rows import Row
from benchmarks.timing import Effort, Spread


def run(effort: Effort, note: Callable[[str], None]) -> Iterator[Row]:
    """The whole recipe, twice."""
    if not effort.epochs:
        note("The demo's test error in bfloat16 needs a full run: left out.")
        return
    tfds.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {"batch_size": BATCH, "data_dir": folder}
        train = cae.data.load("digits", "train", **settings)
        test = cae.data.load("digits", "test", **settings)
        yield _error(train, test, effort)


def _error(train: Any, test: Any, effort: Effort) -> Row:
    """The test error of the recipe in bfloat16, against float32."""
    errors = {}
    before = keras.config.dtype_policy()
    for dtype in ("mixed_bfloat16", "float32"):
        keras.utils.set_random_seed(0)
        keras.config.set_dtype_policy(dtype)
        try:
            model = recipe(train, effort.epochs)
        finally:
            keras.config.set_dtype_policy(before)
        model.fit(train, epochs=effort.epochs, verbose=0, shuffle=False)
        errors[dtype] = float(model.evaluate(test, verbose=0))
    half, single = errors["mixed_bfloat16"], errors["float32"]
    return Row(
        "Test error of the demo recipe, mixed_bfloat16",
        half,
        "float32",
        single,
        "mean squared error",
        Spread.exactly(100 * (half / single - 1)),
        "% more",
        at_most=2.0,
    )
