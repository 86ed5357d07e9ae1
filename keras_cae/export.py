"""SavedModels with named endpoints, written whole or not at all."""

import inspect
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cae._files import whole_folder

_TOLERANCE = 1e-3


def next_version(folder: str | os.PathLike[str]) -> Path:
    """The folder of the next version, as TensorFlow Serving numbers them: 1, 2, ...

    Args:
        folder: The folder of all versions of one model; it need not exist.
    """
    folder = Path(folder)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return folder / str(max([int(n) for n in names if n.isdecimal()], default=0) + 1)


def export_saved_model(
    model: keras.Model, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Writes an autoencoder as one SavedModel with four endpoints.

    `serve` and `reconstruct` map "image" to "reconstruction", `encode` maps "image" to
    "latent" (and to switches, if the decoder needs them), `decode` maps what `encode`
    gave to "reconstruction". The batch is dynamic, sizes are as in the model, outputs
    are float32. `tf.saved_model.load(path)` needs neither Keras nor this package.

    The model is written beside `path`, loaded again, compared with the Keras model on
    random images, and only then moved into place.

    Args:
        model: A model with an `encoder` and a `decoder`.
        path: The folder to write, for TensorFlow Serving `<name>/<version>`.
        overwrite: Whether a folder that exists is replaced.

    Raises:
        FileExistsError: `path` exists and `overwrite` is False.
        OSError: The folder cannot be written.
        RuntimeError: What was written does not give the outputs of the model.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(
            "`path` must not exist; pass another one, or overwrite=True. "
            f"Received: path={str(path)!r}"
        )
    with whole_folder(path) as folder:
        _write(model, folder)
        _compare(model, folder)


def _write(model: keras.Model, folder: Path) -> None:
    archive = keras.export.ExportArchive()
    archive.track(model)

    def reconstruct(image):
        return {"reconstruction": _served(model(image, training=False))}

    def encode(image):
        codes = _codes(model.encoder(image, training=False))
        return {name: _served(value) for name, value in codes.items()}

    image = [_spec("image", model.input)]
    codes = [_spec(name, x) for name, x in _codes(model.encoder.output).items()]
    names = [spec.name for spec in codes]

    def decode(*values):
        given = dict(zip(names, values, strict=True))
        given = given if len(given) > 1 else given["latent"]
        return {"reconstruction": _served(model.decoder(given, training=False))}

    # The names of a function's arguments are those of the endpoint's inputs.
    decode.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names]
    )
    archive.add_endpoint("serve", reconstruct, image)
    archive.add_endpoint("encode", encode, image)
    archive.add_endpoint("decode", decode, codes)
    archive.add_endpoint("reconstruct", reconstruct, image)
    archive.write_out(str(folder), verbose=False)


def _codes(outputs: Any) -> dict[str, Any]:
    """What an encoder gives, by name."""
    return outputs if isinstance(outputs, dict) else {"latent": outputs}


def _spec(name: str, tensor) -> keras.InputSpec:
    dtype = tensor.dtype if "int" in tensor.dtype else "float32"
    return keras.InputSpec(shape=tensor.shape, dtype=dtype, name=name)


def _served(x):
    """Numbers as float32; switches stay integers."""
    if "int" in keras.backend.standardize_dtype(x.dtype):
        return x
    return ops.cast(x, "float32")


def _compare(model: keras.Model, folder: Path) -> None:
    """Loads what was written and checks it against the model it was made from."""
    import tensorflow as tf

    shape = [2, *(size or 13 for size in model.input.shape[1:])]
    image = np.random.default_rng(0).uniform(size=shape).astype("float32")
    served = tf.saved_model.load(str(folder))
    got = served.serve(image)["reconstruction"]
    want = _served(model(image, training=False))
    difference = np.max(np.abs(np.asarray(got) - ops.convert_to_numpy(want)))
    if not difference <= _TOLERANCE:
        raise RuntimeError(
            "The SavedModel does not give the outputs of the model; it was not put in "
            f"place. Largest difference: {difference}, allowed: {_TOLERANCE}"
        )
