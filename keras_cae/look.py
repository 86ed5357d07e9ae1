"""Looks into a saved model: what the callbacks log, without training, and a page."""

import os
import textwrap
from pathlib import Path
from typing import Any

import keras

from keras_cae import data
from keras_cae.callbacks import LatentSpace, PooledFeatureMaps, Reconstructions
from keras_cae.callbacks.batches import first_pairs
from keras_cae.callbacks.probe import find_pools, run_once
from keras_cae.callbacks.summaries import writable_folder
from keras_cae.datasets.labels import read_labels
from keras_cae.page import HEADINGS, read_entries, write_page

SAMPLES = 256


def look(
    path: str | os.PathLike[str],
    name: str = "digits",
    log_dir: str | os.PathLike[str] = "runs/look",
    *,
    split: str = "test",
    data_dir: str | os.PathLike[str] | None = None,
    image_size: tuple[int, int] | None = None,
) -> Path:
    """Logs what a saved model does with the first images of a data set.

    Writes the events of `PooledFeatureMaps` where the model makes the grid smaller, of
    `Reconstructions` where its output has the shape of its input, and of `LatentSpace`
    where it has an `encoder`; and a page, `index.html`, of the same pictures. Their
    step is 0, or the one behind the last that `log_dir` has.

    Args:
        path: A `.keras` file. It is loaded in Keras' safe mode.
        name: The data set, as for `keras_cae.data.load`.
        log_dir: The folder for the events and the page.
        split: The split of the data set.
        data_dir: The folder of all prepared data sets. None means TFDS' own.
        image_size: Height and width in pixels to which the images are resized.

    Returns:
        The path of the page.

    Raises:
        ImportError: If TensorFlow or TFDS is missing, which read the data.
        OSError: If a file cannot be read or written.
        ValueError: If the model cannot be loaded, does not suit the data, or shows
            nothing.
    """
    folder = writable_folder("log_dir", log_dir)
    model = load_model(path)
    images = _images(model, name, split, data_dir, image_size)
    labels = read_labels(name, split, len(images), data_dir)
    callbacks = _callbacks(model, folder, images, labels)
    if not callbacks:
        raise ValueError(
            "The model must have a layer that makes the grid smaller, an output of the "
            f"shape of its input, or an encoder. Received: {path} with the layers "
            f"{[layer.name for layer in model.layers]}"
        )
    step = _next_step(folder)
    run = keras.callbacks.CallbackList(callbacks, model=model)
    run.on_train_begin()
    run.on_epoch_begin(step)
    run.on_epoch_end(step)
    run.on_train_end()
    file = Path(path).name
    facts = {
        "Model": f"{file} ({model.name}), {model.count_params():,} parameters",
        "Data": f"{name}, split {split}, the first {len(images)} images",
        "Shape": f"{' x '.join(map(str, images.shape[1:]))} an image",
    }
    return write_page(folder, f"{file} on {name}", facts, step)


def load_model(path: str | os.PathLike[str]) -> keras.Model:
    """The model in a `.keras` file, loaded in safe mode and not compiled.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is no `.keras` file, is damaged, or holds what safe mode
            refuses or what Keras does not know.
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(
            "The model must be a .keras file, as model.save('model.keras') writes it. "
            f"Received: {path}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no model file {path}")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise ValueError(f"{path} cannot be loaded: {_one_line(error)}") from error


def _images(
    model: keras.Model, name: str, split: str, data_dir: Any, image_size: Any
) -> Any:
    """The first images of the data set, which the model has been tried on."""
    asked = [tuple(x.shape[1:]) for x in getattr(model, "inputs", None) or []]
    batches = data.load(
        name,
        split,
        batch_size=32,
        shuffle_seed=None,
        data_dir=data_dir,
        image_size=image_size,
    )
    images, _ = first_pairs(batches, SAMPLES)
    found = images.shape[1:]
    if asked and not _suit(asked, found):
        resized = (*asked[0][:2], found[-1])
        hint = ""
        if len(asked) == 1 and None not in resized and _suit(asked, resized):
            hint = f"; --image-size {resized[0]} {resized[1]} resizes them"
        raise ValueError(
            f"The model does not suit the data: it takes {_text(asked)}, but the "
            f"images of {name!r} have the shape {found}{hint}"
        )
    try:
        model(images[:1], training=False)
    except Exception as error:
        raise ValueError(
            f"The model does not suit the data: it fails on images of {name!r}, of the "
            f"shape {found}: {_one_line(error)}"
        ) from error
    return images


def _suit(asked: list[tuple[int | None, ...]], found: tuple[int, ...]) -> bool:
    if len(asked) != 1 or len(asked[0]) != len(found):
        return False
    return all(side in (None, f) for side, f in zip(asked[0], found, strict=True))


def _text(shapes: list[tuple[int | None, ...]]) -> str:
    if len(shapes) == 1:
        return f"inputs of the shape {shapes[0]}"
    return f"{len(shapes)} inputs, of the shapes {shapes}"


def _callbacks(
    model: keras.Model, folder: Path, images: Any, labels: Any
) -> list[keras.callbacks.Callback]:
    """Those that the model has something to show for."""
    callbacks: list[keras.callbacks.Callback] = []
    if run_once(model, find_pools(model), images[:1])[1]:
        callbacks.append(PooledFeatureMaps(folder, images))
    outputs = model(images[:1], training=False)
    if getattr(outputs, "shape", None) == (1, *images.shape[1:]):
        callbacks.append(Reconstructions(folder, images))
    if isinstance(getattr(model, "encoder", None), keras.Model):
        callbacks.append(LatentSpace(folder, images, labels))
    return callbacks


def _next_step(folder: Path) -> int:
    runs = [folder / below for below in HEADINGS if (folder / below).is_dir()]
    return 1 + max((e.step for run in runs for e in read_entries(run)), default=-1)


def _one_line(error: Exception) -> str:
    """What is wrong; Keras says that last, behind the config of the whole model."""
    reason = str(error).rpartition("Exception encountered: ")[2]
    return textwrap.shorten(reason, 400, placeholder=" ...") or repr(error)
