"""A page of the pictures and figures of a run, for people without TensorBoard."""

import base64
import html
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_cae._files import whole

HEADINGS = {
    "reconstructions": "Reconstructions",
    "feature_maps": "Pooling",
    "latent_space": "Latent space",
}

FRAME = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
body {{ margin: 0 auto; max-width: 72rem; padding: 1rem 1.5rem 4rem; color: #222;
  background: #fff; font: 1rem/1.5 system-ui, sans-serif; }}
h1, h2, h3 {{ line-height: 1.2; margin: 2rem 0 .5rem; }}
h2 {{ border-top: 1px solid #bbb; padding-top: 1rem; }}
.row {{ display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }}
figure {{ margin: .5rem 0; max-width: 100%; overflow-x: auto; }}
figcaption {{ color: #555; font-size: .875rem; max-width: 40rem; }}
img {{ display: block; image-rendering: pixelated; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .15rem 1.5rem .15rem 0; text-align: left; font-weight: normal;
  vertical-align: top; }}
td {{ font-variant-numeric: tabular-nums; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


class Entry(NamedTuple):
    """The last value that a tag has: a PNG file, a number or rows of a histogram."""

    step: int
    kind: str
    tag: str
    value: Any
    about: str


def write_page(log_dir: Path, title: str, facts: dict[str, str], step: int) -> Path:
    """Writes `index.html` into a folder with the events of callbacks below it.

    It holds all it shows, the pictures too, and asks for nothing else.

    Args:
        log_dir: The folder of the run.
        title: What the page is about.
        facts: What to say first, by name.
        step: The step to show; what was logged at none but others is left out.

    Returns:
        The path of the page.
    """
    parts = [_table([(name, text, "") for name, text in facts.items()])]
    for folder, heading in HEADINGS.items():
        if (log_dir / folder).is_dir():
            entries = read_entries(log_dir / folder)
            parts += _section(heading, [e for e in entries if e.step == step])
    path = log_dir / "index.html"
    page = FRAME.format(title=html.escape(title), body="\n".join(parts))
    with whole(path) as written:
        written.write_text(page, encoding="utf-8")
    return path


def read_entries(folder: Path) -> list[Entry]:
    """The last value of each tag in the event files of a folder, in their order."""
    from tensorboard.backend.event_processing import plugin_event_accumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = plugin_event_accumulator.EventAccumulator(str(folder))
    events.Reload()
    entries = []
    for tag in events.Tags()["tensors"]:
        event, metadata = events.Tensors(tag)[-1], events.SummaryMetadata(tag)
        tensor, kind = event.tensor_proto, metadata.plugin_data.plugin_name
        value = tensor.string_val[2] if kind == "images" else make_ndarray(tensor)
        about = metadata.summary_description
        entries.append(Entry(event.step, kind, tag, value, about))
    return entries


def _section(heading: str, entries: list[Entry]) -> list[str]:
    """What belongs to one layer together: pictures, histograms, then figures."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        stem, _, last = entry.tag.removesuffix("/histogram").rpartition("/")
        if last != "seconds":  # What logging cost is no matter of the model.
            groups.setdefault(stem, []).append(entry)
    parts = [f"<h2>{heading}</h2>"] if groups else []
    for name, group in groups.items():
        if len(groups) > 1:
            parts.append(f"<h3>{html.escape(name)}</h3>")
        for kind, show in (("images", _picture), ("histograms", _histogram)):
            shown = [show(entry) for entry in group if entry.kind == kind]
            parts.append(f'<div class="row">{"".join(shown)}</div>')
        scalars = [entry for entry in group if entry.kind == "scalars"]
        parts.append(
            _table([(x.tag, f"{float(x.value):.4g}", x.about) for x in scalars])
        )
    return parts


def _picture(entry: Entry) -> str:
    data = base64.b64encode(entry.value).decode()
    return _figure(entry, f'<img alt="{{alt}}" src="data:image/png;base64,{data}">')


def _histogram(entry: Entry) -> str:
    """Bars, a bucket each, between the lowest and the highest value."""
    low, high, counts = np.asarray(entry.value, "float64").reshape(-1, 3).T
    if not counts.sum():
        return _figure(entry, '<p role="img" aria-label="{alt}">no finite values</p>')
    heights = 60 * counts / counts.max()
    bars = "".join(
        f'<rect x="{8 * n}" y="{60 - height:.1f}" width="7" height="{height:.1f}"/>'
        for n, height in enumerate(heights)
    )
    ends = f"{low[0]:.3g}", f"{high[-1]:.3g}"
    width = 8 * len(counts)
    return _figure(
        entry,
        f'<svg role="img" aria-label="{{alt}}" width="{width}" height="76" '
        f'viewBox="0 0 {width} 76" fill="#3e4989" font-size="12">{bars}'
        f'<text y="74" fill="#222">{ends[0]}</text>'
        f'<text x="{width}" y="74" fill="#222" text-anchor="end">{ends[1]}</text>'
        "</svg>",
    )


def _figure(entry: Entry, content: str) -> str:
    caption = f"{entry.tag}: {entry.about}" if entry.about else entry.tag
    caption = html.escape(caption)
    content = content.replace("{alt}", caption)
    return f"<figure>{content}<figcaption>{caption}</figcaption></figure>"


def _table(rows: list[tuple[str, str, str]]) -> str:
    lines = [
        f'<tr><th scope="row">{html.escape(name)}</th>'
        f"<td>{html.escape(text)}</td><td>{html.escape(about)}</td></tr>"
        for name, text, about in rows
    ]
    return f"<table>{''.join(lines)}</table>" if lines else ""
