"""PyTorch's side of a comparison: nobody where PyTorch is not installed."""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.cases import Case
from benchmarks.timing import Party, Times
from benchmarks.workers import Worker

LAYOUTS = {"PyTorch eager": "eager", "PyTorch channels_last": "channels_last"}
MISSING = 'PyTorch is missing, its rows are left out: pip install -e ".[bench]"'


class TorchSide:
    """The nets of `torch_nets` in a process of their own.

    Args:
        worker: That process, or None without PyTorch.
    """

    def __init__(self, worker: Worker | None) -> None:
        self._worker = worker

    def parties(self, what: str) -> dict[str, Party]:
        """Those to be timed; `what` is "train" or "predict"."""
        if self._worker is None:
            return {}
        return {
            name: self._worker.party(f"{what} {layout}")
            for name, layout in LAYOUTS.items()
        }

    def outputs(self) -> list[np.ndarray]:
        """The reconstructions, with the channels where Keras has them."""
        if self._worker is None:
            return []
        outputs = [self._worker.call(f"predict {name}") for name in LAYOUTS.values()]
        return [x.transpose(0, 2, 3, 1) for x in outputs]


@contextlib.contextmanager
def served(
    case: Case, weights: list[Any], note: Callable[[str], None], dtype: str = "float32"
) -> Iterator[TorchSide]:
    """PyTorch with the weights of a Keras model, in a process that ends behind."""
    if importlib.util.find_spec("torch") is None:
        note(MISSING)
        yield TorchSide(None)
        return
    from benchmarks import torch_nets

    with Worker(torch_nets.make, case, weights, dtype) as worker:
        yield TorchSide(worker)


def goal(times: Times, value: float) -> dict[str, float]:
    """The goal, which the better of PyTorch's layouts sets."""
    medians = {name: np.median(times[name]) for name in LAYOUTS if name in times}
    return {min(medians, key=lambda name: medians[name]): value} if medians else {}
