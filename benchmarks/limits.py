"""How far a training step is from what the machine can multiply and add."""

import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from benchmarks.cases import Case
from benchmarks.rows import Row
from benchmarks.timing import Spread, Times

SIDE = 1024  # of the matrices whose product tells the machine's rate


def multiplied() -> Callable[[], None]:
    """The product of two float32 matrices, as a call."""
    matrix = tf.random.normal((SIDE, SIDE))
    product = tf.function(tf.matmul)

    def call() -> None:
        product(matrix, matrix)
        tf.test.experimental.sync_devices()

    return call


def limit_row(name: str, model: keras.Model, case: Case, times: Times) -> Row:
    """A step against its multiply-adds at the rate of matrix products."""
    adds = multiply_adds(model, case)
    limit = times["multiply"] * adds / SIDE**3
    return Row(
        f"Training step of {name}, {case}",
        1e3 * float(np.median(times[name])),
        f"its {adds / 1e9:.2f} G multiply-adds, as matrix products",
        1e3 * float(np.median(limit)),
        "ms",
        Spread.of(times[name] / limit),
        "x the limit",
    )


def multiply_adds(model: keras.Model, case: Case) -> int:
    """Those of the convolutions of a training step, counted in TensorFlow's graph."""

    @tf.function
    def gradients(images):
        with tf.GradientTape() as tape:
            error = model(images, training=True) - images
            loss = tf.reduce_mean(tf.square(error))
        return tape.gradient(loss, [v.value for v in model.trainable_variables])

    images = tf.TensorSpec((case.batch, *case.shape), tf.float32)
    graph = gradients.get_concrete_function(images).graph
    return sum(map(_of_operation, _needed([x.op for x in graph.outputs])))


def _needed(operations: list[tf.Operation]) -> set[tf.Operation]:
    """These and all that they depend on; TensorFlow runs no others."""
    needed: set[tf.Operation] = set()
    while operations:
        operation = operations.pop()
        if operation not in needed:
            needed.add(operation)
            operations += [x.op for x in operation.inputs]
    return needed


def _of_operation(operation: tf.Operation) -> int:
    """Every tap of the kernel at every place where the convolution puts it.

    Such places are the cells of the output of a convolution, and so of what its
    gradients, and a transposed convolution, take in as the gradient of that output.
    """
    if operation.type == "Conv2D":
        kernel, places = operation.inputs[1], operation.outputs[0]
    elif operation.type == "Conv2DBackpropInput":
        kernel, places = operation.inputs[1], operation.inputs[2]
    elif operation.type == "Conv2DBackpropFilter":
        kernel, places = operation.outputs[0], operation.inputs[2]
    else:
        return 0
    return math.prod(kernel.shape) * math.prod(places.shape[:-1])
