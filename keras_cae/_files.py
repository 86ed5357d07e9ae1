"""Files and folders that appear whole or not at all."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """An empty folder on the disk of `path`, gone at the end, whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to make, which takes the place of `path` if all goes well."""
    with _beside(path) as folder:
        yield folder / "new"
        if path.exists():
            path.rename(folder / "old")
        (folder / "new").rename(path)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write, which takes the place of `path` if all goes well."""
    with _beside(path) as folder:
        yield folder / path.name
        (folder / path.name).replace(path)
