"""Files and folders that appear whole or not at all."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file or a folder; if all goes well it takes the place of `path`.

    That is on the same disk, and gone at the end whatever happens.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield beside / path.name
        if path.is_dir():
            path.rename(beside / "replaced")
        (beside / path.name).replace(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
