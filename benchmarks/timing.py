"""Times several parties in turn, so that all meet the same machine, and compares them.

A party is a function that takes how often to repeat its call and returns the seconds of
one. Every round times each party once, in an order drawn anew; ratios are taken within
a round, so that what slows a machine down for a while slows both sides of a ratio.
"""

import dataclasses
import gc
import math
import os
import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from benchmarks.cases import LARGE, SMALL, Case

THREADS = os.cpu_count() or 1
SHORTEST = 0.005  # seconds; a shorter call is repeated until it takes as long
PAUSE = 0.02  # seconds; OpenMP's threads spin for some milliseconds when they are done

Party = Callable[[int], float]
Times = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long to measure.

    Args:
        seconds: The time for one comparison of several parties.
        rounds: The least number of rounds, whatever time they take.
        processes: How many fresh processes, where a figure needs them.
        epochs: Epochs of the demo recipe; 0 leaves it out.
        cases: The nets that are trained.
    """

    seconds: float
    rounds: int
    processes: int
    epochs: int
    cases: tuple[Case, ...]


FULL = Effort(seconds=5, rounds=12, processes=7, epochs=20, cases=(SMALL, LARGE))
QUICK = Effort(seconds=0.3, rounds=3, processes=1, epochs=0, cases=(SMALL,))


@dataclasses.dataclass(frozen=True)
class Spread:
    """A median between its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        low, median, high = np.percentile(list(values), (25, 50, 75))
        return cls(float(median), float(low), float(high))

    @classmethod
    def exactly(cls, value: float) -> "Spread":
        """A figure that is not measured in rounds."""
        return cls(value, value, value)


def geometric_mean(spreads: Iterable[Spread]) -> Spread:
    """That of the medians, and of each quartile."""
    values = np.log([dataclasses.astuple(spread) for spread in spreads])
    return Spread(*map(float, np.exp(values.mean(axis=0))))


def here(call: Callable[[], Any]) -> Party:
    """A call timed in this process; it must wait for its result."""

    def timed(number: int) -> float:
        start = time.perf_counter()
        for _ in range(number):
            call()
        return (time.perf_counter() - start) / number

    return timed


def interleave(parties: Mapping[str, Party], effort: Effort, most: int = 200) -> Times:
    """The seconds of one call of each party, an entry a round."""
    numbers = {name: _repetitions(timed) for name, timed in parties.items()}
    order, shuffle = list(parties), random.Random(0).shuffle
    rounds: list[dict[str, float]] = []
    end = time.monotonic() + effort.seconds
    gc.collect()
    gc.disable()
    try:
        while len(rounds) < most:
            if len(rounds) >= effort.rounds and time.monotonic() > end:
                break
            shuffle(order)
            rounds.append(
                {name: _rested(parties[name], numbers[name]) for name in order}
            )
    finally:
        gc.enable()
    return {name: np.array([times[name] for times in rounds]) for name in parties}


def _rested(timed: Party, number: int) -> float:
    time.sleep(PAUSE)
    return timed(number)


def _repetitions(timed: Party) -> int:
    """How often to repeat a call, found while it warms up."""
    seconds = min(timed(1) for _ in range(3))
    return max(1, math.ceil(SHORTEST / seconds))
