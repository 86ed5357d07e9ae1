"""Whether the cost of a training step grows in proportion to batch and pixels."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks import keras_nets
from benchmarks.cases import SMALL, Case
from benchmarks.rows import Row
from benchmarks.timing import Effort, Spread, Times, here, interleave

BATCHES = (32, 128, 512)
SIDES = (32, 64, 128, 256)  # pixels
IMAGES = 8  # a batch of those


def run(effort: Effort, note: Callable[[str], None]) -> Iterator[Row]:
    """Steps of several sizes, each in turn."""
    batches = {
        f"batch {batch}": dataclasses.replace(SMALL, batch=batch) for batch in BATCHES
    }
    sides = {
        f"{side} x {side} pixels": Case((side, side, 1), SMALL.filters, IMAGES)
        for side in SIDES
    }
    for cases in (batches, sides):
        parties = {name: here(_step(case)) for name, case in cases.items()}
        yield from _rows(cases, interleave(parties, effort))


def _step(case: Case) -> Callable[[], float]:
    return keras_nets.train(keras_nets.ours(case), case)


def _rows(cases: dict[str, Case], times: Times) -> Iterator[Row]:
    """Each size against the smallest, and the worst of all pairs."""
    pixels = {name: _pixels(case) for name, case in cases.items()}
    costs = {name: times[name] / pixels[name] for name in cases}
    pairs = list(itertools.combinations(cases, 2))
    worst = max(pairs, key=lambda pair: np.median(costs[pair[1]] / costs[pair[0]]))
    for smaller, larger in dict.fromkeys((*pairs[: len(cases) - 1], worst)):
        yield Row(
            f"Training step, {larger}",
            1e3 * float(np.median(times[larger])),
            smaller,
            1e3 * float(np.median(times[smaller])),
            "ms",
            Spread.of(costs[larger] / costs[smaller]),
            "x proportional",
            at_most=1.15 if (smaller, larger) == worst else None,
            size=pixels[larger] / pixels[smaller],
        )


def _pixels(case: Case) -> int:
    height, width, _ = case.shape
    return case.batch * height * width
