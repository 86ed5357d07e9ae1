"""Whole training steps and inference, against plain Keras and PyTorch."""

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import keras_nets, torch_side
from benchmarks.cases import Case
from benchmarks.limits import limit_row, multiplied
from benchmarks.rows import Row, agree, faster
from benchmarks.timing import Effort, here, interleave

PLAIN = "plain Keras"


def run(effort: Effort, note: Callable[[str], None]) -> Iterator[Row]:
    """Both nets, inference first."""
    for case in effort.cases:
        ours, plain = keras_nets.ours(case), keras_nets.plain(case)
        plain.set_weights(ours.get_weights())
        nets = {"ours": ours, PLAIN: plain}
        with torch_side.served(case, ours.get_weights(), note) as torch:
            yield from _inference(case, nets, torch, effort)
            yield from _training(case, nets, torch, effort)


def _inference(case: Case, nets: dict, torch: Any, effort: Effort) -> Iterator[Row]:
    calls = {name: keras_nets.predict(model, case) for name, model in nets.items()}
    mine = calls["ours"]()
    for other in (calls[PLAIN](), *torch.outputs()):
        agree(f"Inference, {case}", [mine], [other])
    parties = {name: here(call) for name, call in calls.items()}
    times = interleave(parties | torch.parties("predict"), effort)
    for other in list(times)[1:]:
        yield faster(f"Inference, {case}", times, "ours", other)


def _training(case: Case, nets: dict, torch: Any, effort: Effort) -> Iterator[Row]:
    calls = {name: keras_nets.train(model, case) for name, model in nets.items()}
    parties = {name: here(call) for name, call in calls.items()}
    parties |= torch.parties("train") | {"multiply": here(multiplied())}
    times = interleave(parties, effort)
    goals = {PLAIN: 1.5} | torch_side.goal(times, 1.6)
    for other in list(times)[1:-1]:
        title = f"Training step, {case}"
        yield faster(title, times, "ours", other, goals.get(other))
    for name, model in nets.items():
        yield limit_row(name, model, case, times)
