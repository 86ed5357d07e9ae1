"""What bfloat16 and XLA bring to a training step."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import keras_nets, torch_side
from benchmarks.rows import Row, faster
from benchmarks.timing import Effort, here, interleave

PLAIN = "plain Keras, float32"
BFLOAT16 = "mixed_bfloat16"
SETTINGS: dict[str, dict[str, Any]] = {
    "float32": {"jit_compile": False},
    "float32, XLA": {"jit_compile": True},
    BFLOAT16: {"dtype": BFLOAT16, "jit_compile": False},
    f"{BFLOAT16}, XLA": {"dtype": BFLOAT16, "jit_compile": True},
}


def run(effort: Effort, note: Callable[[str], None]) -> Iterator[Row]:
    """Every setting beside float32."""
    goal = 2.0 if _has_bfloat16() else None
    for case in effort.cases:
        nets = {f"ours, {k}": keras_nets.ours(case, **v) for k, v in SETTINGS.items()}
        nets[PLAIN] = keras_nets.plain(case, jit_compile=False)
        nets[f"plain Keras, {BFLOAT16}"] = keras_nets.plain(case, **SETTINGS[BFLOAT16])
        calls = {name: keras_nets.train(model, case) for name, model in nets.items()}
        parties = {name: here(call) for name, call in calls.items()}
        weights = nets[PLAIN].get_weights()
        with torch_side.served(case, weights, note, "bfloat16") as torch:
            rivals = {f"{k}, bfloat16": v for k, v in torch.parties("train").items()}
            times = interleave(parties | rivals, effort)
        title, mine = f"Training step, {BFLOAT16}, {case}", f"ours, {BFLOAT16}"
        yield faster(title, times, mine, PLAIN, goal)
        for other in (f"plain Keras, {BFLOAT16}", *rivals):
            yield faster(title, times, mine, other)
        for name in list(SETTINGS)[1:]:
            title = f"Training step, {name}, {case}"
            yield faster(title, times, f"ours, {name}", "ours, float32")


def _has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16; a GPU that TensorFlow sees does."""
    try:
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU")) or (
            "bf16" in Path("/proc/cpuinfo").read_text()
        )
    except OSError:
        return False
