"""The command line: `python -m benchmarks`."""

import argparse
import importlib
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

# Each is a module with `run(effort, note)`, imported when its turn comes: so nothing is
# loaded that does not take part.
TOPICS = {
    "imports": "what the import adds to that of Keras",
    "layers": "layer by layer, forward and backward",
    "steps": "whole training steps and inference; distance from the limit",
    "curves": "loss curves of the same net, ours and plain",
    "precision": "training steps in bfloat16, and with XLA",
    "memory": "peak memory of training steps",
    "growth": "cost of a step by batch and pixels",
    "serving": "answers of the SavedModel",
    "demo": "its data and its callbacks",
    "accuracy": "its test error in bfloat16; full runs only",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs topics, prints their tables and writes the results."""
    options = _parser().parse_args(arguments)
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if options.markdown:
        return _print_markdown(options.out / "results.json")
    options.out.mkdir(parents=True, exist_ok=True)  # fails now, not in half an hour
    from benchmarks import machine, report
    from benchmarks.timing import FULL, QUICK

    command = " ".join(["python -m benchmarks", *(arguments or sys.argv[1:])])
    facts = {"command": command} | machine.describe()
    results: dict[str, list] = {}
    notes: list[str] = []
    for name in options.only or TOPICS:
        start = time.monotonic()
        try:
            topic = importlib.import_module(f"benchmarks.{name}")
            rows = topic.run(QUICK if options.quick else FULL, notes.append)
            results[name] = list(rows)
        except ImportError as error:
            notes.append(f'{name} is left out: {error}: pip install -e ".[bench]"')
            continue
        print(f"\n{name}: {TOPICS[name]} ({time.monotonic() - start:.0f} s)")
        print(report.table(results[name]), flush=True)
    print("", *dict.fromkeys(notes), sep="\n")
    _write(results, facts, options.out)
    return 0


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, TOPICS))
    topics = "\n".join(f"  {name:{width}}  {about}" for name, about in TOPICS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compares keras_cae with plain Keras and PyTorch.",
        epilog=f"topics:\n{topics}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="two minutes, for a first look")
    add("--only", nargs="+", choices=TOPICS, metavar="TOPIC", help="these topics alone")
    add("--out", type=Path, default=Path("benchmarks/results"), help="folder to write")
    add("--markdown", action="store_true", help="print the results in --out, no more")
    return parser


def _print_markdown(path: Path) -> int:
    from benchmarks import report

    if not path.exists():
        print(f"There are no results yet at {path}", file=sys.stderr)
        return 2
    print(report.markdown(*report.from_json(path.read_text())))
    return 0


def _write(results: dict, facts: dict[str, str], out: Path) -> None:
    """The results in the place of the last ones."""
    from benchmarks import report
    from keras_cae._files import whole

    figure = report.plot(results)
    with whole(out / "results.json") as path:
        path.write_text(report.to_json(results, facts))
    if figure is None:
        (out / "results.png").unlink(missing_ok=True)
    else:
        with whole(out / "results.png") as path:
            figure.savefig(path, dpi=120)
    print(f"Results      {out}")


if __name__ == "__main__":
    sys.exit(main())
