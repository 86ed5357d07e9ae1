"""Loss curves from the same weights: the same in float64, up to chaos in float32.

A training amplifies what rounding changes, step by step, often a hundred thousand
times within twenty. So float64 tells whether two nets compute the same, and float32 is
shown beside plain Keras against itself, started from weights one rounding away.
"""

import dataclasses
from collections.abc import Callable, Iterator

import keras
import numpy as np

from benchmarks import keras_nets
from benchmarks.cases import Case
from benchmarks.rows import Row
from benchmarks.timing import QUICK, Effort, Spread

STEPS = 20
ROUNDED = 3  # trainings from weights one rounding away


def run(effort: Effort, note: Callable[[str], None]) -> Iterator[Row]:
    """Float64 on a small batch, since it is slow; float32 in a full run."""
    for case in effort.cases:
        yield exact(dataclasses.replace(case, batch=4))
        if effort == QUICK:
            note("Loss curves in float32 need a full run: left out.")
        else:
            yield rounding(case)


def exact(case: Case) -> Row:
    """Ours against plain Keras, with next to no rounding."""
    weights, plain = _plain(case, "float64")
    worst = _difference(keras_nets.ours(case, "float64"), weights, case, plain)
    return _row(f"float64, {case}", worst, "plain Keras", None, at_most=1e-4)


def rounding(case: Case) -> Row:
    """Ours against plain Keras, where plain Keras against itself is as far away."""
    weights, plain = _plain(case, "float32")
    worst = _difference(keras_nets.ours(case), weights, case, plain)
    chaos = max(
        _difference(keras_nets.plain(case), _rounded(weights, seed), case, plain)
        for seed in range(ROUNDED)
    )
    itself = "plain Keras against itself, rounded"
    return _row(f"float32, {case}", worst, itself, chaos, at_most=max(1e-4, chaos))


def _row(case: str, ours: float, against: str, other: float | None, at_most: float):
    figure = Spread.exactly(ours)
    case = f"Loss over {STEPS} steps, {case}"
    unit = "of the loss"
    return Row(case, ours, against, other, unit, figure, "", at_most=at_most)


def _plain(case: Case, dtype: str) -> tuple[list[np.ndarray], np.ndarray]:
    """The weights of plain Keras at the start, and its losses from there."""
    keras.utils.set_random_seed(0)
    model = keras_nets.plain(case, dtype)
    return model.get_weights(), _losses(model, case)


def _difference(
    model: keras.Model, weights: list[np.ndarray], case: Case, losses: np.ndarray
) -> float:
    """The largest difference from other losses, in units of these."""
    model.set_weights(weights)
    return float(np.abs(_losses(model, case) / losses - 1).max())


def _rounded(weights: list[np.ndarray], seed: int) -> list[np.ndarray]:
    """Each number exchanged for the next one up or down, by chance."""
    rng = np.random.default_rng(seed)
    signs = [rng.choice((-np.inf, np.inf), value.shape) for value in weights]
    pairs = zip(weights, signs, strict=True)
    return [np.nextafter(value, sign.astype(value.dtype)) for value, sign in pairs]


def _losses(model: keras.Model, case: Case) -> np.ndarray:
    step = keras_nets.train(model, case)
    losses = []
    for _ in range(STEPS):
        model.reset_metrics()  # Keras tells the mean since the last reset
        losses.append(step())
    return np.array(losses)
