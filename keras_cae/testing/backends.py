"""What each backend has its own way for: tracing, compiling, gradients."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cae.testing import arrays

# How TensorFlow and PyTorch say that they have no kernel for a dtype or a format.
_NO_KERNEL = ("NotFoundError", "UnimplementedError", "NHWC", "not implemented for")


def is_tensorflow() -> bool:
    """Whether Keras runs on TensorFlow."""
    return keras.backend.backend() == "tensorflow"


def traced(model: keras.Model) -> Callable[[arrays.Arrays], Any]:
    """A model traced once, with the unknown sizes of its inputs.

    Only TensorFlow traces a graph with unknown sizes; elsewhere it is the model itself.
    """
    if not is_tensorflow():
        return functools.partial(model, training=False)
    import tensorflow as tf

    signature = {
        name: tf.TensorSpec(tensor.shape, tensor.dtype, name)
        for name, tensor in model.input.items()
    }
    return tf.function(
        functools.partial(model, training=False), [signature], autograph=False
    )


def compiled(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """The function compiled by XLA; None where the backend has no such compiler."""
    if is_tensorflow():
        import tensorflow as tf

        return tf.function(function, jit_compile=True, autograph=False)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return None


def lacks_kernel(error: Exception) -> bool:
    """Whether the backend cannot do this here, as TensorFlow half floats on a CPU."""
    text = f"{type(error).__name__}: {error}"
    return any(sign in text for sign in _NO_KERNEL)


def where_possible(promise: Callable[..., Any]) -> Callable[..., Any]:
    """The promise, not judged where the backend has no kernel for it."""

    @functools.wraps(promise)
    def judged(trial: Any, **kwargs: Any) -> Any:
        try:
            return promise(trial, **kwargs)
        except Exception as error:
            if lacks_kernel(error):
                return False
            raise

    return judged


def resilient(function: Callable[[arrays.Arrays], Any]) -> Callable[..., Any]:
    """The function, compiled where only the compiler has the kernel."""
    by_xla = compiled(function)

    def call(tensors: arrays.Arrays) -> Any:
        try:
            return function(tensors)
        except Exception as error:
            if by_xla is None or not lacks_kernel(error):
                raise
            return by_xla(tensors)

    return call


def variables_read(function: Callable[[], Any]) -> Any:
    """The trainable variables that a call reads; None where no backend tells."""
    if not is_tensorflow():
        return None
    import tensorflow as tf

    with tf.GradientTape() as tape:
        function()
    return tape.watched_variables()


def gradients(
    layer: keras.layers.Layer, call: Callable[..., Any], tensors: arrays.Arrays
) -> dict[str, Any]:
    """The gradients of a loss that weighs all float outputs of a layer unequally.

    `call(layer, tensors)` calls the layer, or a function in its place. The keys name
    the tensor or the weight; a value of None means that the loss does not depend on it.
    """
    floats = {key: value for key, value in tensors.items() if arrays.is_float(value)}
    names = [f"input {key}" for key in floats]
    names += [f"weight {variable.path}" for variable in layer.trainable_variables]
    slopes = _GRADIENTS[keras.backend.backend()](layer, call, tensors, floats)
    return dict(zip(names, slopes, strict=True))


def _loss(outputs: Any) -> Any:
    """A plain sum would hide faults that cancel, squares those at zero."""
    random = np.random.default_rng(0)
    losses = [
        ops.sum(
            ops.cast(y, "float32") * ops.cast(random.normal(size=y.shape), "float32")
        )
        for y in keras.tree.flatten(outputs)
        if arrays.is_float(y)
    ]
    return sum(losses[1:], losses[0])


def _tensorflow(layer: Any, call: Any, tensors: Any, floats: Any) -> list[Any]:
    import tensorflow as tf

    held = {key: tf.convert_to_tensor(value) for key, value in tensors.items()}
    with tf.GradientTape() as tape:
        tape.watch([held[key] for key in floats])
        loss = _loss(call(layer, held))
    sources = [*(held[key] for key in floats), *layer.trainable_variables]
    return [
        g if g is None else tf.convert_to_tensor(g)
        for g in tape.gradient(loss, sources)
    ]


def _jax(layer: Any, call: Any, tensors: Any, floats: Any) -> list[Any]:
    import jax

    variables = layer.trainable_variables

    def loss(floats: Any, weights: Any) -> Any:
        with keras.StatelessScope(list(zip(variables, weights, strict=True))):
            return _loss(call(layer, tensors | floats))

    weights = [variable.value for variable in variables]
    of_floats, of_weights = jax.grad(loss, argnums=(0, 1))(floats, weights)
    return [*(of_floats[key] for key in floats), *of_weights]


def _torch(layer: Any, call: Any, tensors: Any, floats: Any) -> list[Any]:
    held = {key: ops.convert_to_tensor(value) for key, value in tensors.items()}
    for key in floats:
        held[key] = held[key].detach().clone().requires_grad_()
    _loss(call(layer, held)).backward()
    weights = [variable.value for variable in layer.trainable_variables]
    return [tensor.grad for tensor in (*(held[key] for key in floats), *weights)]


_GRADIENTS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
