import errno
import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from keras_cae.callbacks import summaries
from keras_cae.callbacks.summaries import EventWriter, drop_from, writable_folder


def read(folder):
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    return events.Reload()


def numbers(event):
    return np.frombuffer(event.tensor_proto.tensor_content).reshape(-1, 3)


def test_images_are_read_back(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 9), "uint8")
    writer = EventWriter(tmp_path)
    writer.image("layer/before", pixels, 3, "What it shows.")
    writer.image("layer/before", 255 - pixels, 7)
    writer.flush()
    writer.close()
    events = read(tmp_path)
    about = events.summary_metadata["layer/before"]
    assert about.plugin_data.plugin_name == "images"
    assert about.summary_description == "What it shows."
    first, second = events.Tensors("layer/before")
    assert (first.step, second.step) == (3, 7)
    width, height, png = first.tensor_proto.string_val
    assert (width, height) == (b"9", b"5")
    np.testing.assert_array_equal(Image.open(io.BytesIO(png)), pixels)


def test_histograms_are_read_back(tmp_path):
    values = np.random.default_rng(0).normal(size=(4, 5, 6)).astype("float32")
    writer = EventWriter(tmp_path)
    writer.histogram("layer", values, 2)
    writer.flush()
    writer.close()
    events = read(tmp_path)
    assert events.summary_metadata["layer"].plugin_data.plugin_name == "histograms"
    (event,) = events.Tensors("layer")
    left, right, counts = numbers(event).T
    assert event.step == 2
    assert left[0] == values.min()
    assert right[-1] == values.max()
    np.testing.assert_array_equal(left[1:], right[:-1])
    for low, high, count in zip(left[:-1], right[:-1], counts[:-1], strict=True):
        assert count == np.sum((values >= low) & (values < high))
    assert counts.sum() == values.size


@pytest.mark.parametrize(
    ("values", "counted"),
    [
        ([1.0, np.nan, np.inf, -np.inf, 2.0], 2),
        ([np.nan, np.nan], 0),
        ([], 0),
        ([5.0, 5.0, 5.0], 3),
        ([3e38, -3e38], 2),
        ([1.0, 1.0 + 1e-7], 2),
    ],
)
def test_histograms_count_finite_values_only(tmp_path, values, counted):
    writer = EventWriter(tmp_path)
    writer.histogram("layer", np.array(values, "float32"), 0)
    writer.flush()
    writer.close()
    (event,) = read(tmp_path).Tensors("layer")
    assert np.all(np.isfinite(numbers(event)))
    assert numbers(event)[:, 2].sum() == counted


def test_what_was_flushed_can_be_read_before_the_file_is_closed(tmp_path):
    writer = EventWriter(tmp_path)
    writer.histogram("layer", np.ones(3), 0)
    writer.flush()
    assert len(read(tmp_path).Tensors("layer")) == 1
    writer.close()


def test_each_writer_has_a_file_of_its_own(tmp_path):
    for _ in range(20):
        EventWriter(tmp_path).close()
    assert len(list(tmp_path.glob("*tfevents*"))) == 20


def test_folder_is_made_by_the_writer_alone(tmp_path):
    folder = tmp_path / "runs" / "one"
    assert writable_folder("log_dir", str(folder)) == folder
    assert writable_folder("log_dir", folder.parent, below="one") == folder
    assert not folder.parent.exists()
    EventWriter(folder).close()
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("value", [None, 3, "", True, b"runs", "gs://bucket/runs"])
def test_what_is_no_local_path_is_refused(value):
    with pytest.raises(
        ValueError, match="`log_dir` must be the path of a local folder"
    ):
        writable_folder("log_dir", value)


@pytest.mark.parametrize("below", ["", "below", "far/below"])
def test_file_in_place_of_a_folder_is_refused(tmp_path, below):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(NotADirectoryError, match=r"`log_dir` must be .*file"):
        writable_folder("log_dir", file / below)


def test_folder_that_cannot_be_written_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(summaries.os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match=r"`log_dir` .*cannot"):
        writable_folder("log_dir", tmp_path / "runs")


def test_importing_callbacks_loads_no_tensorboard_and_no_pillow():
    code = (
        "import sys, keras; before = set(sys.modules); import keras_cae.callbacks; "
        "new = set(sys.modules) - before; "
        "print([m for m in new if m.split('.')[0] in ('tensorboard', 'PIL')])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert out.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("count", [2, 256, 257])
def test_coloured_images_are_read_back_exactly(tmp_path, count):
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (count, 3), "uint8")
    pixels = colours[np.arange(20 * 30).reshape(20, 30) % count]
    writer = EventWriter(tmp_path)
    writer.image("layer", pixels, 0)
    writer.flush()
    writer.close()
    (event,) = read(tmp_path).Tensors("layer")
    width, height, png = event.tensor_proto.string_val
    assert (width, height) == (b"30", b"20")
    image = Image.open(io.BytesIO(png))
    assert image.mode == ("P" if count <= 256 else "RGB")
    np.testing.assert_array_equal(image.convert("RGB"), pixels)


def scalars(folder, tag):
    return {
        event.step: float(tensor_util.make_ndarray(event.tensor_proto))
        for event in read(folder).Tensors(tag)
    }


def test_scalars_are_read_back(tmp_path):
    writer = EventWriter(tmp_path)
    for step, value in enumerate([1.5, -2, float("nan")]):
        writer.scalar("layer/sparsity", value, step, "What it means.")
    writer.flush()
    writer.close()
    assert scalars(tmp_path, "layer/sparsity") == pytest.approx(
        {0: 1.5, 1: -2, 2: float("nan")}, nan_ok=True
    )
    about = read(tmp_path).summary_metadata["layer/sparsity"]
    assert about.plugin_data.plugin_name == "scalars"
    assert about.summary_description == "What it means."


def test_nothing_is_written_before_a_flush(tmp_path):
    writer = EventWriter(tmp_path)
    size = writer.path.stat().st_size
    writer.scalar("a", 1, 0)
    assert writer.waiting > 0
    assert writer.path.stat().st_size == size == writer.written
    writer.discard()
    assert writer.waiting == 0
    writer.flush()
    assert writer.path.stat().st_size == size
    writer.close()


@pytest.mark.parametrize("broken", [b"", b"x", 40 * b"x"])
def test_events_from_a_step_on_are_dropped_from_all_files(tmp_path, broken):
    for steps in (range(3), range(3, 6), range(6, 9)):
        writer = EventWriter(tmp_path)
        for step in steps:
            writer.scalar("a", 10 + step, step)
            writer.scalar("b", 20 + step, step)
        writer.flush()
        writer.close()
        with writer.path.open("ab") as file:
            file.write(broken)
    drop_from(tmp_path, 4)
    for tag, first in (("a", 10), ("b", 20)):
        assert scalars(tmp_path, tag) == {step: first + step for step in range(4)}
        assert len(read(tmp_path).Tensors(tag)) == 4
    before = writer.path.read_bytes()
    drop_from(tmp_path, 4)
    assert writer.path.read_bytes() == before


class FullDisk:
    """A file that takes but a part of what is written to it, and then no more."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = self.file.write(data[: self.room])
        self.room -= taken
        return taken

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("room", [0, 1, 40, 200])
def test_full_disk_leaves_all_that_was_whole(tmp_path, room):
    writer = EventWriter(tmp_path)
    writer.scalar("a", 1, 0)
    writer.flush()
    whole, file = writer.path.read_bytes(), writer._file
    writer._file = FullDisk(file, room)
    for step in (1, 2):
        writer.scalar("a", 2, step)
        writer.histogram("b", np.ones(9), step)
    with pytest.raises(OSError, match="No space left"):
        writer.flush()
    assert writer.path.read_bytes() == whole
    writer._file = file
    writer.scalar("a", 3, 7)
    writer.flush()
    writer.close()
    assert scalars(tmp_path, "a") == {0: 1, 7: 3}


def test_file_that_takes_parts_at_a_time_gets_all(tmp_path):
    writer = EventWriter(tmp_path)
    writer._file, write = FullDisk(writer._file, 10**6), writer._file.write
    writer._file.write = lambda data: write(data[:7])
    writer.scalar("a", 1, 0)
    writer.flush()
    writer.close()
    assert scalars(tmp_path, "a") == {0: 1}


def test_file_that_is_gone_is_an_error(tmp_path):
    writer = EventWriter(tmp_path / "run")
    writer.path.unlink()
    with pytest.raises(FileNotFoundError, match="gone"):
        writer.flush()
    writer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_writer_that_cannot_begin_leaves_no_file(tmp_path, monkeypatch):
    file = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(summaries, "_write_all", lambda _, data: os.write(file, data))
    with pytest.raises(OSError, match="No space left"):
        EventWriter(tmp_path)
    os.close(file)
    assert list(tmp_path.iterdir()) == []
