"""TensorBoard event files, written without TensorFlow."""

import io
import os
import socket
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


class EventWriter:
    """A new event file in `folder`, which is made where it does not exist.

    Images and histograms must not share a tag: TensorBoard would show neither.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        # No EventFileWriter: its thread would outlive a training that fails.
        self._records = RecordWriter((folder / f"{name}.{os.getpid()}").open("xb"))
        self._write(Event(file_version="brain.Event:2"))
        self.flush()

    def image(self, tag: str, pixels: Any, step: int, description: str = "") -> None:
        """Writes a grey picture, `(height, width)` in uint8."""
        from PIL import Image
        from tensorboard.plugins.image import metadata

        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG")
        height, width = pixels.shape
        data = [str(width).encode(), str(height).encode(), png.getvalue()]
        about = metadata.create_summary_metadata(None, description)
        self._write_value(tag, data, step, about)

    def histogram(self, tag: str, values: Any, step: int) -> None:
        """Writes how often which values occur; what is no finite number is left out."""
        from tensorboard.plugins.histogram import metadata

        finite = values[np.isfinite(values)].astype("float64")
        counts, edges = np.histogram(finite, BUCKETS)
        data = np.stack([edges[:-1], edges[1:], counts], axis=1)
        about = metadata.create_summary_metadata(None, "")
        self._write_value(tag, data, step, about)

    def flush(self) -> None:
        """Hands all that was written to the operating system."""
        self._records.flush()

    def close(self) -> None:
        """Closes the file."""
        self._records.close()

    def _write_value(self, tag: str, data: Any, step: int, metadata: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.util.tensor_util import make_tensor_proto

        event = Event(step=step)
        tensor = make_tensor_proto(data)
        event.summary.value.add(tag=tag, metadata=metadata, tensor=tensor)
        self._write(event)

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
