"""Answers of the exported SavedModel, against the Keras model and PyTorch."""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf

from benchmarks import keras_nets, torch_side
from benchmarks.cases import SMALL
from benchmarks.rows import Row, agree, faster
from benchmarks.timing import Effort, here, interleave

BATCHES = (1, 256)


def run(effort: Effort, note: Callable[[str], None]) -> Iterator[Row]:
    """One image, and many."""
    model = keras_nets.ours(SMALL)
    with tempfile.TemporaryDirectory() as folder:
        model.export(Path(folder) / "1")
        loaded = tf.saved_model.load(str(Path(folder) / "1"))
        for batch in BATCHES:
            yield from _compared(model, loaded, batch, effort, note)


def _compared(model, loaded, batch: int, effort: Effort, note) -> Iterator[Row]:
    case = dataclasses.replace(SMALL, batch=batch)
    images = tf.constant(case.images())

    def answer():
        return loaded.serve(images)["reconstruction"].numpy()

    def call():
        return model(images, training=False).numpy()

    def predict():
        return model.predict_on_batch(images)

    calls = {"SavedModel": answer, "model(x)": call, "model.predict_on_batch": predict}
    with torch_side.served(case, model.get_weights(), note) as torch:
        for other in (call(), *torch.outputs()):
            agree(f"SavedModel, batch {batch}", [answer()], [other])
        parties = {name: here(call) for name, call in calls.items()}
        times = interleave(parties | torch.parties("predict"), effort)
    for other in list(times)[1:]:
        yield faster(f"SavedModel, {case}", times, "SavedModel", other)
