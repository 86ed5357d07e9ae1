"""One layer against all promises."""

import functools
from collections.abc import Collection
from typing import Any

import keras

from keras_cae.testing import numerics, promises, saving, verdicts
from keras_cae.testing.trials import Trial

PROMISES: dict[str, verdicts.Promise] = {
    "inference": promises.inference,
    "config": promises.config,
    "symbolic shape": promises.symbolic_shape,
    "symbolic dtype": promises.symbolic_dtype,
    "unknown sizes": promises.unknown_sizes,
    "state": promises.state,
    "inputs": promises.inputs,
    "samples": promises.samples,
    "data format": promises.data_format,
    "jit_compile": promises.jit_compile,
    "gradients": numerics.gradients,
    "tracked weights": promises.tracked_weights,
    "mixed_float16": functools.partial(
        numerics.mixed_precision, policy="mixed_float16"
    ),
    "mixed_bfloat16": functools.partial(
        numerics.mixed_precision, policy="mixed_bfloat16"
    ),
    "keras file": saving.keras_file,
    "subclassed model": saving.subclassed_model,
    "SavedModel": saving.saved_model,
}


def check_layer(
    layer: keras.layers.Layer, inputs: Any, *, skip: Collection[str] = ()
) -> list[str]:
    """Checks that a layer keeps what Keras and those who build on it rely on.

    The promises, by name; those that do not apply to a layer or a backend are left out:

    - "inference": two calls give the same, `training` may be left out.
    - "config": `get_config()` has every argument, and makes the same layer.
    - "symbolic shape", "symbolic dtype": what a functional model is told is what comes.
    - "unknown sizes": a graph that does not know the sizes gives the same, on this grid
      and on another one; nothing of the first grid is kept.
    - "state", "inputs": a call at inference changes no weight, and no input.
    - "samples": no sample depends on the others in its batch.
    - "data format": channels first and last give the same, transposed.
    - "jit_compile": compiled by XLA the outputs are the same (TensorFlow, JAX).
    - "gradients": outputs and gradients are finite in training, at zero as well.
    - "tracked weights": all variables that are read are known to Keras (TensorFlow).
    - "mixed_float16", "mixed_bfloat16": outputs have the promised width, are near those
      of float32, and do not overflow where the result does not.
    - "keras file", "subclassed model": reloaded in a functional and in a subclassed
      model the outputs are the same, with weights that were changed before.
    - "SavedModel": so they are exported, without Python code (TensorFlow).

    Args:
        layer: The layer. It is called, which builds it, and otherwise left alone: all
            promises are checked on copies from its config. Set its arguments off their
            defaults, since a lost default does not show.
        inputs: An array of two samples or more; or the call arguments by name, where
            there are several: arrays, lists of arrays, and settings, as in
            `{"x": x, "switches": switches, "like": x}`. Sides that a window does not
            divide, such as 7 and 10, and exact zeros show most.
        skip: Names of promises that the layer does not make.

    Returns:
        The names of the promises that were checked.

    Raises:
        AssertionError: A promise is broken; the message names it and says how.
        ValueError: An argument breaks its rule.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(2, 7, 10, 3))
        >>> "samples" in check_layer(keras.layers.MaxPooling2D(3, strides=2), x)
        True
        >>> class Halved(keras.layers.Layer):
        ...     def call(self, x):
        ...         return x[:, ::2]
        ...
        ...     def compute_output_shape(self, shape):
        ...         return (shape[0], shape[1] // 2, *shape[2:])
        >>> check_layer(Halved(), x[..., 0])
        Traceback (most recent call last):
        AssertionError: Halved: symbolic shape: promised (None, 3, 10), got (2, 4, 10)
    """
    unknown = set(skip) - set(PROMISES)
    if unknown:
        raise ValueError(
            f"`skip` must hold names of promises: {list(PROMISES)}. "
            f"Received: skip={skip!r}"
        )
    asked = {name: kept for name, kept in PROMISES.items() if name not in skip}
    trial = Trial.of(layer, inputs)
    return verdicts.kept(type(layer).__name__, asked, trial)
