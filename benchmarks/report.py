"""Results as a table, as JSON, as Markdown and as a plot."""

import importlib.util
import json
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.rows import Row

HEADER = ("what", "ours", "against", "theirs", "figure", "quartiles", "goal", "met")
Results = Mapping[str, list[Row]]


def cells(row: Row) -> tuple[str, ...]:
    """A row as text, for each column."""
    spread = row.figure
    quartiles = ""
    if spread.low != spread.high:
        quartiles = f"{number(spread.low)} - {number(spread.high)}"
    goal = ""
    if row.at_least is not None:
        goal = f">= {number(row.at_least)}"
    elif row.at_most is not None:
        goal = f"<= {number(row.at_most)}"
    return (
        row.case,
        f"{number(row.ours)} {row.unit}" if row.ours is not None else "",
        row.against,
        f"{number(row.other)} {row.unit}" if row.other is not None else "",
        f"{number(spread.median)} {row.kind}",
        quartiles,
        goal,
        {None: "", True: "yes", False: "NO"}[row.reached],
    )


def number(value: float) -> str:
    """Three digits, or all of those before the point."""
    if value == 0 or abs(value) >= 1e-3:
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:.1e}"


def table(rows: Iterable[Row]) -> str:
    """Rows under each other, in columns."""
    lines = [HEADER, *map(cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = (map(str.ljust, line, widths) for line in lines)
    return "\n".join("  ".join(text).rstrip() for text in texts)


def to_json(results: Results, facts: Mapping[str, str]) -> str:
    """Everything, to be read again by `from_json`."""
    topics = {name: [row.to_dict() for row in rows] for name, rows in results.items()}
    return json.dumps({"machine": dict(facts), "topics": topics}, indent=2) + "\n"


def from_json(text: str) -> tuple[Results, dict[str, str]]:
    """The results and the facts about their machine."""
    values: dict[str, Any] = json.loads(text)
    topics = values["topics"].items()
    results = {name: [Row.from_dict(row) for row in rows] for name, rows in topics}
    return results, values["machine"]


def markdown(results: Results, facts: Mapping[str, str]) -> str:
    """The machine, then a table for each topic."""
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    for name, rows in results.items():
        lines += ["", f"**{name}**", "", _markdown_row(HEADER)]
        lines += ["|---" * len(HEADER) + "|", *(_markdown_row(cells(r)) for r in rows)]
    return "\n".join(lines)


def _markdown_row(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def plot(results: Results) -> Any:
    """How many times as fast we are, and how the cost of a step grows.

    None where there is nothing to draw, or nothing to draw with.
    """
    if importlib.util.find_spec("matplotlib") is None:
        print('No plot without matplotlib: pip install -e ".[bench]"')
        return None
    from matplotlib.figure import Figure

    ratios = [r for rows in results.values() for r in rows if r.kind == "x"]
    growth = [r for rows in results.values() for r in rows if r.size is not None]
    drawn = [(_draw_ratios, ratios, 8), (_draw_growth, growth, 5)]
    panels = [panel for panel in drawn if panel[1]]
    if not panels:
        return None
    widths = [width for _, _, width in panels]
    size = sum(widths), max(4.5, 0.2 * len(ratios) + 1)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    for (draw, rows, _), panel in zip(panels, axes, strict=True):
        draw(panel, rows)
    return figure


def _draw_ratios(axes: Any, rows: list[Row]) -> None:
    """Medians between their quartiles, from the top; goals as lines."""
    places = range(len(rows))
    for place, row in zip(places, rows, strict=True):
        spread = row.figure
        color = "tab:red" if row.reached is False else "tab:blue"
        axes.plot([spread.low, spread.high], [place] * 2, color=color, alpha=0.5, lw=4)
        axes.plot(spread.median, place, "o", color=color, ms=4)
        if row.at_least is not None:
            axes.plot(row.at_least, place, "|", color="black", ms=9)
    axes.axvline(1, color="gray", lw=0.8)
    axes.set_xscale("log")
    axes.set_yticks(places, [f"{r.case} | {r.against}" for r in rows], fontsize=6)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("times as fast (median, quartiles; black: the goal)")


def _draw_growth(axes: Any, rows: list[Row]) -> None:
    """The cost of a pixel by the size of the step, relative to the smallest."""
    for start in dict.fromkeys(row.against for row in rows):
        points = [row for row in rows if row.against == start]
        sizes = [1.0, *(row.size for row in points)]
        costs = [1.0, *(row.figure.median for row in points)]
        axes.plot(sizes, costs, "o-", ms=4, label=f"from {start}")
    axes.axhline(1.15, color="black", lw=0.8, ls=":")
    axes.set_xscale("log", base=2)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("pixels a step, in those of the smallest")
    axes.set_ylabel("time a pixel, in that of the smallest (dotted: the goal)")
    axes.legend()
