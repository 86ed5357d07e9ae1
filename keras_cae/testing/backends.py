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


def differentiated(
    layer: keras.layers.Layer, call: Callable[..., Any]
) -> Callable[[arrays.Arrays], tuple[Any, dict[str, Any]]]:
    """A function from tensors to the outputs, and the gradients of a loss on them.

    The loss weighs all float outputs unequally. `call(layer, tensors)` calls the layer.
    The gradients have the names of tensors and weights; a value of None means that the
    loss does not depend on it.
    """
    differentiate = _DIFFERENTIATED[keras.backend.backend()](layer, call)

    def function(tensors: arrays.Arrays) -> tuple[Any, dict[str, Any]]:
        floats = {k: x for k, x in tensors.items() if arrays.is_float(x)}
        others = {k: x for k, x in tensors.items() if k not in floats}
        outputs, slopes = differentiate(floats, others)
        names = [f"input {key}" for key in floats]
        names += [f"weight {weight.path}" for weight in layer.trainable_variables]
        return outputs, dict(zip(names, slopes, strict=True))

    return function


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


def _tensorflow(layer: Any, call: Any) -> Any:
    import tensorflow as tf

    def differentiate(floats: Any, others: Any) -> Any:
        floats = {key: tf.convert_to_tensor(x) for key, x in floats.items()}
        with tf.GradientTape() as tape:
            tape.watch(floats)
            outputs = call(layer, floats | others)
            loss = _loss(outputs)
        sources = [*floats.values(), *layer.trainable_variables]
        slopes = tape.gradient(loss, sources)
        return outputs, [None if g is None else tf.convert_to_tensor(g) for g in slopes]

    return differentiate


def _jax(layer: Any, call: Any) -> Any:
    import jax

    def loss(floats: Any, weights: Any, others: Any) -> Any:
        scope = list(zip(layer.trainable_variables, weights, strict=True))
        with keras.StatelessScope(scope):
            outputs = call(layer, floats | others)
            return _loss(outputs), outputs

    compiled_gradient = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))

    def differentiate(floats: Any, others: Any) -> Any:
        weights = [variable.value for variable in layer.trainable_variables]
        (of_floats, of_weights), outputs = compiled_gradient(floats, weights, others)
        return outputs, [*(of_floats[key] for key in floats), *of_weights]

    return differentiate


def _torch(layer: Any, call: Any) -> Any:
    def differentiate(floats: Any, others: Any) -> Any:
        floats = {
            key: ops.convert_to_tensor(x.copy()).requires_grad_()
            for key, x in floats.items()
        }
        layer.zero_grad()
        outputs = call(layer, floats | others)
        _loss(outputs).backward()
        weights = [variable.value for variable in layer.trainable_variables]
        return outputs, [tensor.grad for tensor in (*floats.values(), *weights)]

    return differentiate


_DIFFERENTIATED = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
