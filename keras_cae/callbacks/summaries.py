"""TensorBoard event files, written without TensorFlow."""

import contextlib
import errno
import io
import os
import socket
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np

BUCKETS = 30


def writable_folder(name: str, value: Any, below: str = "") -> Path:
    """The folder `below` the one at `value`, if it can be made and written to.

    Makes nothing. `name` is that of the argument, for the error.
    """
    local = isinstance(value, (str, os.PathLike)) and "://" not in str(value)
    if not local or not str(value):
        raise ValueError(
            f"`{name}` must be the path of a local folder. Received: {name}={value!r}"
        )
    path = Path(value, below)
    nearest = next(folder for folder in (path, *path.parents) if folder.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(
            f"`{name}` must be a folder, but {nearest} is a file. "
            f"Received: {name}={str(value)!r}"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(
            f"`{name}` must be a folder that can be written to, but {nearest} cannot. "
            f"Received: {name}={str(value)!r}"
        )
    return path


def drop_from(folder: Path, step: int) -> None:
    """Takes the events of `step` and later ones out of the event files in `folder`.

    For a training that goes on from there: TensorBoard would show those steps twice.
    """
    for path in folder.glob("events.out.tfevents.*"):
        with path.open("r+b") as file:
            file.truncate(_end_before(file, step))


def _end_before(file: Any, step: int) -> int:
    """Where in an event file the first summary of `step` or later begins."""
    from tensorboard.compat.proto.event_pb2 import Event

    end, size = 0, os.fstat(file.fileno()).st_size
    while end + 16 <= size:  # A record is a length, its checksum, data, its checksum.
        (length,) = struct.unpack("<Q", file.read(12)[:8])
        if end + 16 + length > size:  # Cut off, as a killed process leaves it.
            break
        event = Event.FromString(file.read(length + 4)[:length])
        if event.HasField("summary") and event.step >= step:
            break
        end = file.tell()
    return end


class EventWriter:
    """A new event file in `folder`, which is made where it does not exist.

    Events wait in memory until `flush`, which writes all of them or none: a full disk
    leaves the file as it was. Kinds must not share a tag: TensorBoard shows neither.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        self.path = folder / f"{name}.{os.getpid()}"
        # Unbuffered: a buffer would write again, on closing, what had failed.
        self._file = self.path.open("xb", buffering=0)
        self._waiting = io.BytesIO()
        # No EventFileWriter: its thread would outlive a training that fails.
        self._records = RecordWriter(self._waiting)
        self.written = 0
        self._add(Event(file_version="brain.Event:2"))
        try:
            self.flush()
        except OSError:
            self._file.close()
            self.path.unlink(missing_ok=True)
            raise

    @property
    def waiting(self) -> int:
        """How many bytes the next `flush` will write."""
        return self._waiting.tell()

    def scalar(self, tag: str, value: float, step: int, description: str = "") -> None:
        """Adds a number, which may be NaN."""
        from tensorboard.plugins.scalar import metadata

        about = metadata.create_summary_metadata("", description)
        self._add_value(tag, np.float32(value), step, about)

    def image(self, tag: str, pixels: Any, step: int, description: str = "") -> None:
        """Adds a picture in uint8: `(height, width)` grey or `(height, width, 3)`."""
        from tensorboard.plugins.image import metadata

        height, width = pixels.shape[:2]
        data = [str(width).encode(), str(height).encode(), png(pixels)]
        about = metadata.create_summary_metadata("", description)
        self._add_value(tag, data, step, about)

    def histogram(self, tag: str, values: Any, step: int) -> None:
        """Adds how often which values occur; what is no finite number is left out."""
        from tensorboard.plugins.histogram import metadata

        finite = values[np.isfinite(values)].astype("float64")
        counts, edges = np.histogram(finite, BUCKETS)
        data = np.stack([edges[:-1], edges[1:], counts], axis=1)
        about = metadata.create_summary_metadata("", "")
        self._add_value(tag, data, step, about)

    def flush(self) -> None:
        """Writes all that waits, or nothing where that fails with an OSError."""
        waiting = self._waiting.getvalue()
        self.discard()
        if not self.path.exists():
            raise FileNotFoundError(errno.ENOENT, "The event file is gone", self.path)
        try:
            _write_all(self._file, waiting)
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(self.written)
                self._file.seek(self.written)
            raise
        self.written += len(waiting)

    def discard(self) -> None:
        """Forgets all that waits."""
        self._waiting.seek(0)
        self._waiting.truncate()

    def close(self) -> None:
        """Closes the file; what still waits is not written."""
        self._file.close()

    def _add_value(self, tag: str, data: Any, step: int, metadata: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.util.tensor_util import make_tensor_proto

        event = Event(step=step)
        tensor = make_tensor_proto(data)
        event.summary.value.add(tag=tag, metadata=metadata, tensor=tensor)
        self._add(event)

    def _add(self, event: Any) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())


def png(pixels: Any) -> bytes:
    """A picture in uint8, `(height, width)` or `(height, width, 3)`, as a PNG file.

    Up to 256 colours become a palette, which takes half the bytes.
    """
    from PIL import Image

    image, file = Image.fromarray(pixels), io.BytesIO()
    found = image.getcolors(256) if pixels.ndim == 3 else None
    if found is not None:
        colours = np.array(sorted(_packed(np.array([c for _, c in found]))))
        image = Image.fromarray(
            np.searchsorted(colours, _packed(pixels)).astype("uint8")
        )
        image.putpalette((colours[:, None] >> [16, 8, 0]).astype("uint8").tobytes())
    image.save(file, "PNG")
    return file.getvalue()


def _packed(colours: Any) -> Any:
    """Red, green and blue as one number."""
    red, green, blue = np.moveaxis(colours.astype("int32"), -1, 0)
    return red << 16 | green << 8 | blue


def _write_all(file: Any, data: bytes) -> None:
    """Writes `data`; an unbuffered file may take only a part at once."""
    while data:
        data = data[file.write(data) :]
