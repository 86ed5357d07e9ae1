"""What Keras and its users rely on in a layer, one function a promise.

Each takes a `Trial`, raises AssertionError where the promise is broken, and returns
False where it does not apply to the layer or to the backend.
"""

import functools
import inspect
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cae.testing import arrays, backends
from keras_cae.testing.trials import Trial

_PLAIN = (bool, int, float, str, type(None))


def inference(trial: Trial) -> None:
    """Two calls give the same, and `training` may be left out."""
    expected = trial.outputs(trial.layer)
    for what, training in (("a second call", False), ("without `training`", None)):
        again = trial.outputs(trial.layer, training=training)
        arrays.require_equal(again, expected, what)


def config(trial: Trial) -> None:
    """The config has every argument, and what it makes is the same layer."""
    layer = trial.layer
    settings = layer.get_config()
    arguments = _arguments_of(layer)
    lacking = [name for name in arguments if name not in settings]
    if lacking:
        raise AssertionError(f"get_config() lacks {lacking}")
    twin = trial.fresh()
    for name in arguments:
        had, has = (_plain(getattr(x, name, None)) for x in (layer, twin))
        if had != has:
            raise AssertionError(f"`{name}` was {had!r}, and came back as {has!r}")
    outputs = trial.outputs(layer)
    trial.outputs(twin)
    twin.set_weights(layer.get_weights())
    arrays.require_equal(trial.outputs(twin), outputs, "from_config(get_config())")


def _arguments_of(layer: keras.layers.Layer) -> list[str]:
    """The arguments that a config must have: those named by `__init__`, and super's.

    Keras leaves some out while they are None.
    """
    parameters = inspect.signature(type(layer)).parameters.values()
    named = [
        parameter.name
        for parameter in parameters
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and (parameter.default, getattr(layer, parameter.name, ())) != (None, None)
    ]
    return list(dict.fromkeys([*named, "name", "dtype"]))


def _plain(value: Any) -> Any:
    """Numbers, strings and sequences of them, to compare; all else is None."""
    if isinstance(value, (tuple, list)):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, _PLAIN) else None


def symbolic_shape(trial: Trial) -> None:
    """The shapes promised for KerasTensors are those of real outputs."""
    real = [y.shape for y in trial.expected]
    _require_shapes([y.shape for y in trial.symbolic(known_sizes=True)], real)
    _require_shapes([y.shape for y in trial.unsized_model.outputs], real)
    if _overrides(trial.layer, "compute_output_shape") and len(trial.tensors) == 1:
        _require_shapes(_output_shapes(trial), real, " by compute_output_shape")


def _output_shapes(trial: Trial) -> list[tuple[int | None, ...]]:
    """The shapes that compute_output_shape promises, for a layer with one tensor."""
    layer = trial.fresh()
    taken = inspect.signature(layer.compute_output_shape).parameters
    settings = {k: v for k, v in list(trial.arguments.items())[1:] if k in taken}
    (tensor,) = trial.tensors.values()
    shapes = layer.compute_output_shape(tensor.shape, **settings)
    return list(shapes) if isinstance(shapes[0], (tuple, list)) else [shapes]


def _require_shapes(promised: Any, real: Any, how: str = "") -> None:
    if len(promised) != len(real):
        raise AssertionError(f"promised {len(promised)} outputs{how}, got {len(real)}")
    for shape, got in zip(promised, real, strict=True):
        fits = len(shape) == len(got) and all(
            size in (None, actual) for size, actual in zip(shape, got, strict=False)
        )
        if not fits:
            raise AssertionError(f"promised {tuple(shape)}{how}, got {got}")


def _overrides(layer: keras.layers.Layer, method: str) -> bool:
    return getattr(type(layer), method) is not getattr(keras.layers.Layer, method)


def symbolic_dtype(trial: Trial) -> None:
    """The dtypes promised for KerasTensors are those of real outputs."""
    require_dtypes(
        trial.unsized_model.outputs, trial.call(trial.reference, trial.tensors)
    )


def require_dtypes(promised: list[Any], real: Any) -> None:
    """Raises AssertionError where output tensors have another dtype than promised."""
    for tensor, got in zip(promised, keras.tree.flatten(real), strict=True):
        dtype, actual = (
            keras.backend.standardize_dtype(x.dtype) for x in (tensor, got)
        )
        if dtype != actual:
            raise AssertionError(f"promised {dtype}, got {actual}")


def unknown_sizes(trial: Trial) -> None:
    """Unknown sizes change no value, nor does a grid that comes after another one."""
    traced = backends.traced(trial.unsized_model)
    arrays.require_equal(
        arrays.values(traced(trial.tensors)), trial.expected, "with unknown sizes"
    )
    if trial.elsewhere is not None:
        tensors, expected = trial.elsewhere
        what = f"with unknown sizes, then {_shapes(tensors)}"
        arrays.require_equal(arrays.values(traced(tensors)), expected, what)
        what = f"on {_shapes(tensors)} after {_shapes(trial.tensors)}"
        arrays.require_equal(trial.outputs(trial.reference, tensors), expected, what)


def _shapes(tensors: arrays.Arrays) -> str:
    return ", ".join(str(array.shape) for array in tensors.values())


def state(trial: Trial) -> None:
    """No weight and no other variable changes at inference."""
    layer = trial.clone()
    before = [ops.convert_to_numpy(variable) for variable in layer.variables]
    trial.outputs(layer)
    for variable, old in zip(layer.variables, before, strict=True):
        if arrays.largest_difference(ops.convert_to_numpy(variable), old) != 0:
            raise AssertionError(f"a call with training=False changed {variable.path}")


def inputs(trial: Trial) -> None:
    """The tensors that the layer is given stay as they are."""
    held = {
        name: ops.convert_to_tensor(array.copy())
        for name, array in trial.tensors.items()
    }
    trial.call(trial.reference, held, training=False)
    for name, tensor in held.items():
        if not np.array_equal(
            ops.convert_to_numpy(tensor), trial.tensors[name], equal_nan=True
        ):
            raise AssertionError(f"the layer writes into its input `{name}`")


def samples(trial: Trial) -> None:
    """A sample gives the same alone as beside others."""
    batch = len(next(iter(trial.tensors.values())))
    for i in range(batch):
        alone = {name: array[i : i + 1] for name, array in trial.tensors.items()}
        expected = [y[i : i + 1] for y in trial.expected]
        got = trial.outputs(trial.reference, alone)
        arrays.require_equal(got, expected, f"sample {i} without the others")


@backends.where_possible
def data_format(trial: Trial) -> bool | None:
    """Both data formats give the same, transposed."""
    formats = {"channels_first", "channels_last"}
    given = trial.layer.get_config().get("data_format")
    if given not in formats:
        return False
    (other,) = formats - {given}
    tensors = {n: arrays.transposed(a, to=other) for n, a in trial.tensors.items()}
    layer = trial.clone(tensors, data_format=other)
    got = trial.outputs(layer, tensors)
    back = [arrays.transposed(y, to=given) for y in got]
    arrays.require_equal(back, trial.expected, f"in {other}, transposed")
    promised = Trial(layer, tensors, trial.arguments).symbolic(known_sizes=True)
    _require_shapes([y.shape for y in promised], [y.shape for y in got], f" in {other}")
    return None


def tracked_weights(trial: Trial) -> bool | None:
    """Every trainable variable that the layer reads is one of its weights."""
    read = backends.variables_read(functools.partial(trial.outputs, trial.reference))
    if read is None:
        return False
    tracked = [variable.value for variable in trial.reference.variables]
    for variable in read:
        if not any(variable is known for known in tracked):
            raise AssertionError(f"{variable.name} is not among the layer's weights")
    return None


def jit_compile(trial: Trial) -> bool | None:
    """XLA compiles the layer, unless it says `supports_jit = False`."""
    call = backends.compiled(
        functools.partial(trial.call, trial.reference, training=False)
    )
    if call is None or not trial.layer.supports_jit:
        return False
    arrays.require_equal(arrays.values(call(trial.tensors)), trial.expected, "compiled")
    return None
