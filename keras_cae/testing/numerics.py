"""Values that stay finite: gradients, and outputs in half the bits."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_cae.testing import arrays, backends
from keras_cae.testing.promises import require_dtypes
from keras_cae.testing.trials import Trial


def gradients(trial: Trial) -> bool | None:
    """Outputs and gradients are finite in training, at zero as well."""
    if not any(arrays.is_float(y) for y in trial.expected):
        return False
    layer = trial.clone()
    train = backends.differentiated(layer, functools.partial(trial.call, training=True))
    zeros = {
        name: np.zeros_like(array) if arrays.is_float(array) else array
        for name, array in trial.tensors.items()
    }
    for where, tensors in (("", trial.tensors), (" at zero", zeros)):
        outputs, slopes = train(tensors)
        _require_finite(arrays.values(outputs), f"output{where}")
        for name, slope in slopes.items():
            found = [] if slope is None else arrays.values(slope)
            _require_finite(found, f"gradient of {name}{where}")
    return None


def _require_finite(tensors: list[np.ndarray], what: str) -> None:
    for array in tensors:
        broken = np.size(array) - np.count_nonzero(np.isfinite(array))
        if broken:
            raise AssertionError(f"{what}: {broken} values are not finite")


@backends.where_possible
def mixed_precision(trial: Trial, policy: str) -> None:
    """Outputs are as narrow as promised, and near those of float32."""
    layer = trial.clone(dtype=policy)
    call = backends.resilient(functools.partial(trial.call, layer, training=False))
    outputs = call(trial.tensors)
    for y in keras.tree.flatten(outputs):
        dtype = keras.backend.standardize_dtype(y.dtype)
        if arrays.is_float(y) and dtype != layer.compute_dtype:
            raise AssertionError(f"outputs must be {layer.compute_dtype}, got {dtype}")
    narrow = Trial(layer, trial.tensors, trial.arguments)
    require_dtypes(narrow.symbolic(known_sizes=False), outputs)
    got, expected = (_floats(x) for x in (arrays.values(outputs), trial.expected))
    bits = 16 * float(np.finfo(np.float16).eps) * (8 if "bfloat" in policy else 1)
    arrays.require_equal(got, expected, "beside float32", tolerance=bits)
    if policy == "mixed_float16":
        _require_no_overflow(trial, call)


def _floats(outputs: list[np.ndarray]) -> list[np.ndarray]:
    return [y for y in outputs if arrays.is_float(y)]


def _require_no_overflow(trial: Trial, call: Callable[[arrays.Arrays], Any]) -> None:
    """Large inputs, whose powers and exponentials float16 cannot hold."""
    for peak in (60.0, 1024.0):
        tensors = {
            name: np.abs(x) * (peak / (np.abs(x).max() or 1))
            if arrays.is_float(x)
            else x
            for name, x in trial.tensors.items()
        }
        narrow = _floats(arrays.values(call(tensors)))
        wide = _floats(trial.outputs(trial.reference, tensors))
        for got, expected in zip(narrow, wide, strict=True):
            lost = ~np.isfinite(got) & (np.abs(expected) < 3e4)
            if lost.any():
                raise AssertionError(
                    f"inputs up to {peak:g} give {got[lost][0]} where float32 gives "
                    f"{expected[lost][0]:.4g}"
                )
