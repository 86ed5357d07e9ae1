import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from keras_cae.callbacks.summaries import EventWriter
from keras_cae.page import read_entries, write_page

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 9, 3), "uint8")
FACTS = {"Model": "a <b> & 'c'"}


class Checker(HTMLParser):
    """Collects what a page holds; fails on tags that are not closed in their order."""

    EMPTY = ("meta", "link", "img", "rect", "br")

    def __init__(self, page):
        super().__init__()
        self.open, self.found, self.texts = [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, text):
        self.texts.append(text.strip())

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def log_dir(tmp_path):
    writer = EventWriter(tmp_path / "feature_maps")
    for step in range(3):
        writer.image("pool/before", PIXELS + np.uint8(step), step, 'It "shows" <this>.')
        writer.image("pool/after", PIXELS, step)
        writer.histogram("pool/before/histogram", np.arange(6.0), step)
        writer.scalar("pool/energy", step / 4, step, "A share.")
    writer.histogram("pool/empty/histogram", np.array([np.nan]), 2)
    writer.flush()
    writer.close()
    return tmp_path


def test_page_shows_the_last_pictures_and_figures(log_dir):
    page = Checker(write_page(log_dir, "A title", FACTS, 2).read_text("utf-8"))
    pictures = page.all("img")
    shown = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(src))).convert("RGB"))
        for src in (picture["src"].split("base64,")[1] for picture in pictures)
    ]
    np.testing.assert_array_equal(shown[0], PIXELS + np.uint8(2))
    np.testing.assert_array_equal(shown[1], PIXELS)
    assert pictures[0]["alt"] == 'pool/before: It "shows" <this>.'
    assert {"A title", "Model", FACTS["Model"], "pool/energy", "0.5"} <= set(page.texts)
    bars = [float(bar["height"]) for bar in page.all("rect")]
    assert sum(height > 0 for height in bars) == 6
    assert "no finite values" in page.texts


def test_page_asks_for_nothing_else(log_dir):
    text = write_page(log_dir, "A title", FACTS, 2).read_text("utf-8")
    sources = re.findall(r"""(?:src|href)=["']?([^"'\s>]+)""", text)
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert not re.search(r"https?:|url\(|@import|<script|<iframe", text)


def test_every_picture_says_what_it_is(log_dir):
    page = Checker(write_page(log_dir, "A title", FACTS, 2).read_text("utf-8"))
    assert all(picture["alt"] for picture in page.all("img"))
    assert all(picture["aria-label"] for picture in page.all("svg"))
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("title")) == len(page.all("h1")) == 1


def test_page_is_written_whole_or_not_at_all(log_dir, monkeypatch):
    path = write_page(log_dir, "Old", FACTS, 2)
    old = path.read_bytes()

    def fail(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_text", fail)
    with pytest.raises(OSError, match="No space"):
        write_page(log_dir, "New", FACTS, 2)
    assert path.read_bytes() == old
    assert {entry.name for entry in log_dir.iterdir()} == {"feature_maps", "index.html"}


def test_entries_keep_the_order_they_were_written_in(log_dir):
    tags = [entry.tag for entry in read_entries(log_dir / "feature_maps")]
    assert tags[:2] == ["pool/before", "pool/after"]


def test_page_leaves_out_what_has_no_such_step(log_dir):
    writer = EventWriter(log_dir / "feature_maps")
    writer.scalar("pool/energy", 7.0, 3)
    writer.flush()
    writer.close()
    page = Checker(write_page(log_dir, "A title", FACTS, 3).read_text("utf-8"))
    assert not page.all("img")
    assert "7" in page.texts
