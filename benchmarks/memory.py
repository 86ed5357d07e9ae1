"""Peak memory of training steps, each net in a process of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.cases import Case
from benchmarks.rows import Row
from benchmarks.timing import Effort, Spread
from benchmarks.workers import Worker

STATUS = Path("/proc/self/status")
STEPS = 5


def run(effort: Effort, note: Callable[[str], None]) -> Iterator[Row]:
    """Pairs of fresh processes, one a net."""
    if not STATUS.exists():
        note("Memory is read from /proc, which this system lacks: left out.")
        return
    for case in effort.cases:
        rounds = range(effort.processes)
        pairs = [(_peak("ours", case), _peak("plain", case)) for _ in rounds]
        ours, plain = np.array(pairs).T
        yield Row(
            f"Memory that {STEPS} training steps add, {case}",
            float(np.median(ours)),
            "plain Keras",
            float(np.median(plain)),
            "MB",
            Spread.of(ours / plain),
            "x the memory",
            at_most=1.0,
        )


def _peak(name: str, case: Case) -> float:
    with Worker(make, name, case) as worker:
        return worker.call("steps")


def make(name: str, case: Case) -> dict[str, Callable[[], float]]:
    """A model and its data, and what training it takes on top, as a call."""
    from benchmarks import keras_nets

    step = keras_nets.train(getattr(keras_nets, name)(case), case)
    before = _megabytes("VmRSS")

    def steps() -> float:
        for _ in range(STEPS):
            step()
        return _megabytes("VmHWM") - before

    return {"steps": steps}


def _megabytes(name: str) -> float:
    """A number of this process alone; `ru_maxrss` begins with that of its parent."""
    for line in STATUS.read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) / 1024
    raise OSError(f"{STATUS} has no line {name}")
