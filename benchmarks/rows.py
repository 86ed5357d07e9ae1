"""One line of the results: what we cost, what the other costs, and the figure."""

import dataclasses
from typing import Any

import numpy as np

from benchmarks.timing import Spread, Times


@dataclasses.dataclass(frozen=True)
class Row:
    """A figure with its quartiles, and the goal that it should reach.

    Args:
        case: What is measured.
        ours: Our side, the median in `unit`. None where there is none.
        against: What it is held against.
        other: Its side, likewise.
        unit: "ms", "MB", "images/s", ...
        figure: What is made of both sides within a round.
        kind: "x" where the figure says how many times, else its unit.
        at_least: The goal of the figure, where more is better.
        at_most: The goal, where less is better.
        size: Where rows are the points of a curve, the place on its axis.
    """

    case: str
    ours: float | None
    against: str
    other: float | None
    unit: str
    figure: Spread
    kind: str = "x"
    at_least: float | None = None
    at_most: float | None = None
    size: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the median reaches its goal; None without one."""
        if self.at_least is not None:
            return self.figure.median >= self.at_least
        if self.at_most is not None:
            return self.figure.median <= self.at_most
        return None

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"reached": self.reached}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Row":
        values = {key: value for key, value in values.items() if key != "reached"}
        return cls(**values | {"figure": Spread(**values["figure"])})


def faster(
    case: str,
    times: Times,
    ours: str,
    other: str,
    at_least: float | None = None,
) -> Row:
    """How many times as fast one party of `interleave` is as another."""
    return Row(
        case,
        1e3 * float(np.median(times[ours])),
        other,
        1e3 * float(np.median(times[other])),
        "ms",
        Spread.of(times[other] / times[ours]),
        at_least=at_least,
    )


def agree(case: str, ours: Any, other: Any, tolerance: float = 1e-4) -> None:
    """Makes sure that two sides computed the same, so that times can be compared.

    Args:
        case: What was computed.
        ours: A nest of arrays.
        other: The arrays of the other side.
        tolerance: The largest difference, in units of the largest value of an array.

    Raises:
        RuntimeError: The sides differ.
    """
    for mine, theirs in zip(ours, other, strict=True):
        mine, theirs = np.asarray(mine), np.asarray(theirs)
        difference = np.abs(mine - theirs).max() / np.abs(theirs).max()
        if not difference <= tolerance:
            raise RuntimeError(
                f"Both sides of {case!r} must compute the same. Largest difference: "
                f"{difference:.2g} of the largest value, allowed: {tolerance:.2g}"
            )
