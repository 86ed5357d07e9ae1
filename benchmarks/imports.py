"""What `import keras_cae` takes on top of `import keras`, in fresh processes."""

import subprocess
import sys
from collections.abc import Callable, Iterator

from benchmarks.rows import Row
from benchmarks.timing import Effort, Spread

# What comes second finds everything that Keras needs in place: the rest is ours.
PROGRAM = """
import time
start = time.perf_counter()
import keras
between = time.perf_counter()
import keras_cae
print(between - start, time.perf_counter() - between)
"""


def run(effort: Effort, note: Callable[[str], None]) -> Iterator[Row]:
    """Fresh processes, one after another."""
    _seconds()  # writes the compiled files, fills the disk's cache
    pairs = [_seconds() for _ in range(effort.processes)]
    keras, added = (Spread.of(column) for column in zip(*pairs, strict=True))
    yield Row(
        "import keras_cae behind import keras",
        added.median,
        "import keras",
        keras.median,
        "s",
        added,
        "s",
        at_most=0.1,
    )


def _seconds() -> tuple[float, ...]:
    command = [sys.executable, "-c", PROGRAM]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(map(float, result.stdout.split()))
