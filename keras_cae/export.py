"""Models for use without Keras, written whole or not at all."""

import importlib.util
import inspect
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cae import _checks
from keras_cae._files import whole
from keras_cae._norms import without_norms

_TOLERANCE = 1e-3


def next_version(folder: str | os.PathLike[str]) -> Path:
    """The folder of the next version, as TensorFlow Serving numbers them: 1, 2, ...

    Args:
        folder: The folder of all versions of one model; it need not exist.
    """
    folder = Path(folder)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return folder / str(max([int(n) for n in names if n.isdecimal()], default=0) + 1)


def export_model(
    model: keras.Model,
    path: str | os.PathLike[str],
    format: str = "tf_saved_model",
    *,
    overwrite: bool = False,
    fold_norm: bool = False,
) -> None:
    """Writes an autoencoder for use without Keras and this package.

    A SavedModel has four endpoints: `serve` and `reconstruct` map "image" to
    "reconstruction", `encode` maps "image" to "latent" (and to switches, if the decoder
    needs them), `decode` maps what `encode` gave to "reconstruction". The batch is
    dynamic, sizes are as in the model, outputs are float32. LiteRT and ONNX files hold
    the map from image to reconstruction.

    The model is written beside `path`, loaded again, compared with the Keras model on
    random images, and only then moved into place.

    Args:
        model: A model with an `encoder` and a `decoder`.
        path: What to write: for a SavedModel a folder, for TensorFlow Serving
            `<name>/<version>`; for LiteRT a file `*.tflite`, for ONNX one `*.onnx`.
        format: "tf_saved_model", "litert" or "onnx".
        overwrite: Whether a path that exists is replaced.
        fold_norm: Whether the batch norms of blocks become part of the convolutions in
            front of them: the same to rounding, with less to compute.

    Raises:
        FileExistsError: `path` exists and `overwrite` is False.
        ImportError: The packages of the format are missing.
        OSError: The path cannot be written.
        RuntimeError: What was written does not run, or not as the model does.
        ValueError: There is no such format.
    """
    _checks.choice("format", format, _RUNNERS)
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(
            "`path` must not exist; pass another one, or overwrite=True. "
            f"Received: path={str(path)!r}"
        )
    _require(format)
    _checks.flag("fold_norm", fold_norm)
    shape = [2, *(size or 13 for size in model.input.shape[1:])]
    image = np.random.default_rng(0).uniform(size=shape).astype("float32")
    want = ops.convert_to_numpy(_served(model(image, training=False)))
    if fold_norm:
        model = without_norms(model)
        model(image, training=False)  # Keras writes ONNX only of what was called
    with whole(path) as written:
        if format == "tf_saved_model":
            _write(model, written)
        else:
            keras.Model.export(model, str(written), format=format, verbose=False)
        _compare(_RUNNERS[format], written, image, want)


def _require(format: str) -> None:
    """The packages that write and run a format."""
    for module in _PACKAGES.get(format, ()):
        if importlib.util.find_spec(module) is None:
            raise ImportError(
                f"The format {format!r} needs the package {module}: "
                f'pip install "keras_cae[{format}]"'
            )


def _write(model: keras.Model, folder: Path) -> None:
    archive = keras.export.ExportArchive()
    archive.track(model)
    # The endpoints hold all variables; Keras' own list would write each a second time.
    for name in ("variables", "trainable_variables", "non_trainable_variables"):
        archive.add_variable_collection(name, [])

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


def _compare(run: Any, path: Path, image: Any, want: Any) -> None:
    """Runs what was written and checks it against the model it was made from."""
    try:
        difference = np.max(np.abs(run(path, image) - want))
    except Exception as error:
        raise RuntimeError(
            "What was exported does not run; it was not put in place. The format says: "
            f"{error}"
        ) from error
    if not difference <= _TOLERANCE:
        raise RuntimeError(
            "What was exported does not give the outputs of the model; it was not put "
            f"in place. Largest difference: {difference}, allowed: {_TOLERANCE}"
        )


def _run_saved_model(path: Path, image: Any) -> Any:
    import tensorflow as tf

    served = tf.saved_model.load(str(path))
    return served.serve(image)["reconstruction"].numpy()


def _run_litert(path: Path, image: Any) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, image.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place, image)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def _run_onnx(path: Path, image: Any) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    return session.run(None, {session.get_inputs()[0].name: image})[0]


_RUNNERS = {
    "tf_saved_model": _run_saved_model,
    "litert": _run_litert,
    "onnx": _run_onnx,
}
_PACKAGES = {
    "tf_saved_model": (),
    "litert": ("ai_edge_litert",),
    "onnx": ("onnx", "tf2onnx", "onnxruntime"),
}
