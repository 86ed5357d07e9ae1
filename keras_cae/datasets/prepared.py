"""Opens TFDS data sets: finds them, prepares them where needed, checks their files."""

import contextlib
import difflib
import importlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

EXTRAS = {
    "tensorflow": "tensorflow",
    "tensorflow_datasets": "tfds",
    "importlib_resources": "tfds",
}


def find_builder(name: str, data_dir: str | os.PathLike | None = None) -> Any:
    """Returns the TFDS builder of a data set, prepared or not.

    Args:
        name: The name of the data set, as TFDS writes it:
            `"name/config:version"`, where config and version may be left out.
        data_dir: The folder of all prepared data sets. None means TFDS' own, which is
            `$TFDS_DATA_DIR` or else `~/tensorflow_datasets`.

    Raises:
        ImportError: If TensorFlow, TFDS or importlib_resources is missing.
        ValueError: If the name is unknown, or what lies under it cannot be opened.
    """
    _require_tfds()
    import tensorflow_datasets as tfds

    if name.lower().startswith("digits"):
        importlib.import_module("keras_cae.datasets.digits")  # registers it
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        known = {"digits", *tfds.list_builders(with_community_datasets=False)}
        near = difflib.get_close_matches(name, known)
        raise ValueError(
            "`name` must be 'digits', the name of a TFDS data set, or one prepared in "
            f"`data_dir`. Received: name={name!r}, data_dir={data_dir!r}."
            + (f" Near matches: {', '.join(near)}" if near else "")
        ) from error
    except ImportError:
        raise  # some data sets of TFDS need packages of their own
    except Exception as error:  # TFDS lets bad names and broken files raise anything
        raise ValueError(
            "`name` must be a data set that TFDS can open. Received: "
            f"name={name!r}, data_dir={data_dir!r}: {error}{_advice(name, data_dir)}"
        ) from error


def open_builder(name: str, data_dir: str | os.PathLike | None = None) -> Any:
    """Returns the TFDS builder of a data set once its files lie prepared on disk.

    The network is touched only if nothing is prepared and the data set is not embedded.

    Args:
        name: As for `find_builder`.
        data_dir: As for `find_builder`.

    Raises:
        ImportError: If TensorFlow, TFDS or importlib_resources is missing.
        OSError: If the data cannot be prepared in the folder, or is damaged.
        ValueError: If the name is unknown, or what lies under it cannot be opened.
    """
    builder = find_builder(name, data_dir)
    if not builder.data_path.exists():
        _prepare(builder)
    builder = find_builder(name, data_dir)  # reads what is on disk, whoever wrote it
    if not builder.is_prepared():
        raise damaged(builder.data_dir, "dataset_info.json or features.json is missing")
    _check_files(builder)
    return builder


def damaged(folder: str | os.PathLike, reason: object) -> OSError:
    """Returns the error for a prepared data set that cannot be read."""
    return OSError(
        f"The data set prepared in {folder} is damaged: {reason}. Delete this folder "
        "and load the data set again to prepare it anew."
    )


def _require_tfds() -> None:
    for module, extra in EXTRAS.items():
        try:
            importlib.import_module(module)
        except Exception as error:  # a protobuf that does not fit is no ImportError
            raise ImportError(
                f"Loading a data set needs {module}, which cannot be imported: {error}."
                f' Install it by: pip install "keras_cae[{extra}]"'
            ) from error


def _advice(name: str, data_dir: str | os.PathLike | None) -> str:
    """What to do if the fault is not in the name but in the files under it."""
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    base = re.match(r"\w+(/\w[\w.-]*)?", name)
    if not base:
        return ""
    folder = Path(data_dir or default).expanduser() / base[0]
    if not folder.is_dir():
        return ""
    return (
        f"\nIf the data set prepared in {folder} is damaged, delete this folder and "
        "load the data set again to prepare it anew."
    )


def _prepare(builder: Any) -> None:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # there, too, is its progress bar
            builder.download_and_prepare()
    except OSError as error:
        if not builder.is_prepared():  # else another process was faster
            raise OSError(
                f"The data set {builder.name!r} cannot be prepared in "
                f"{builder.data_dir}: {error}"
            ) from error


def _check_files(builder: Any) -> None:
    import tensorflow_datasets as tfds

    for path in builder.data_path.glob("*.json"):  # dataset_info, features
        try:
            json.loads(path.read_text())
        except ValueError as error:
            reason = f"{path.name} is no JSON ({error})"
            raise damaged(builder.data_dir, reason) from error
    for split in builder.info.splits.values():
        paths = [tfds.core.Path(path) for path in split.filepaths]
        missing = [path.name for path in paths if not path.exists()]
        if missing:
            raise damaged(builder.data_dir, f"{', '.join(missing)} is missing")
        if builder.info.file_format == tfds.core.FileFormat.TFRECORD:
            _check_size(builder, split, sum(path.stat().length for path in paths))


def _check_size(builder: Any, split: Any, size: int) -> None:
    # A TFRECORD frames each example by 16 bytes, which most writers of TFDS leave out.
    bare, framed = split.num_bytes, split.num_bytes + 16 * split.num_examples
    if bare and size not in (bare, framed):
        raise damaged(
            builder.data_dir,
            f"the files of split {split.name!r} hold {size} bytes instead of {framed}",
        )
