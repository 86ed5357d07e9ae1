"""Layer by layer, forward and backward, against plain Keras and TensorFlow."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import keras_cae as cae
from benchmarks import plain_ways as plain
from benchmarks.rows import Row, agree, faster
from benchmarks.timing import Effort, geometric_mean, here, interleave
from keras_cae.layers._conv import Conv2D

# Channels in and out, the side of the grid, images a batch.
UPSAMPLED = (
    (64, 64, 7, 64),
    (64, 32, 14, 64),
    (128, 64, 16, 64),
    (32, 32, 32, 64),
    (64, 64, 64, 8),
)
ENCODED = ((3, 32, 64, 64), (32, 64, 32, 64))
MAPS = (64, 28, 28, 64)


def run(effort: Effort, note: Callable[[str], None]) -> Iterator[Row]:
    """Each layer beside the plain way, then the mean of the up-sampling ones."""
    nearest = []
    for channels, filters, side, batch in UPSAMPLED:
        row = _compared(
            f"UpsamplingConv {channels}->{filters} at {side}x{side}",
            cae.layers.UpsamplingConv(filters),
            plain.upsampled(filters, "nearest"),
            (batch, side, side, channels),
            effort,
            at_least=1.0,
        )
        nearest.append(row.figure)
        yield row
    mean = geometric_mean(nearest)
    yield Row(
        "UpsamplingConv, geometric mean", None, plain.NAME, None, "", mean, at_least=1.7
    )
    for channels, filters, side, batch in ENCODED:
        yield _compared(
            f"EncoderBlock {channels}->{filters} at {side}x{side}",
            cae.EncoderBlock(filters),
            plain.encoded(filters),
            (batch, side, side, channels),
            effort,
        )
    for case, ours, other in _on_maps():
        yield _compared(case, ours, other, MAPS, effort)


def _on_maps() -> Iterator[tuple[str, Any, Any]]:
    ours = cae.layers
    switched = ours.MaxPooling(2, return_switches=True), ours.MaxUnpooling(2)
    yield "MaxPooling, switches, MaxUnpooling", _by_switches(*switched), plain.switches
    average = ours.AveragePooling(2), ours.AverageUnpooling(2)
    yield "AveragePooling and AverageUnpooling", _both(*average), plain.average
    # Each of these alone: of a map and its inverse TensorFlow leaves a part out.
    yield "HaarPooling", ours.HaarPooling(2), plain.haar
    yield "HaarUnpooling", ours.HaarUnpooling(2), plain.haar_inverse
    yield "SpaceToDepth", ours.SpaceToDepth(2), plain.space_to_depth
    yield "DepthToSpace", ours.DepthToSpace(2), plain.depth_to_space
    yield "MaxPooling", ours.MaxPooling(2), layers.MaxPooling2D(2, padding="same")
    yield "BlurPooling", ours.BlurPooling(2), plain.blur
    yield "MaxBlurPooling", ours.MaxBlurPooling(2), plain.max_blur
    yield "LpPooling", ours.LpPooling(2), plain.lp
    yield "SoftPooling", ours.SoftPooling(2), plain.soft
    conv = layers.Conv2D(64, 2, strides=2, padding="same")
    yield "StridedConv 64->64", ours.StridedConv(2, filters=64), conv
    yield "SubpixelConv 64->16", ours.SubpixelConv(16), plain.subpixel(16)
    for filters in (1, 3):
        settings = {"filters": filters, "kernel_size": 3, "padding": "same"}
        case = f"Output convolution 64->{filters}"
        yield case, Conv2D(**settings), layers.Conv2D(**settings)
    linear = ours.UpsamplingConv(16, interpolation="linear")
    yield "UpsamplingConv 64->16, linear", linear, plain.upsampled(16, "bilinear")


def _both(pool: Callable, unpool: Callable) -> Callable:
    return lambda x: unpool(pool(x), like=x)


def _by_switches(pool: Callable, unpool: Callable) -> Callable:
    def both(x):
        pooled, switches = pool(x)
        return unpool(pooled, switches=switches, like=x)

    return both


def _compared(
    case: str,
    ours: Any,
    other: Any,
    shape: tuple[int, ...],
    effort: Effort,
    at_least: float | None = None,
) -> Row:
    """Both sides on the same values, with the same weights."""
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=shape).astype("float32"))
    output = other(x)
    ours(x)
    if isinstance(other, keras.Layer) and other.weights:
        ours.set_weights(other.get_weights())
    above = tf.constant(rng.normal(size=output.shape).astype("float32"))
    steps = {case: _step(ours, x, above), plain.NAME: _step(other, x, above)}
    mine, theirs = (step() for step in steps.values())
    agree(case, mine, theirs)
    parties = {name: here(_waited(step)) for name, step in steps.items()}
    times = interleave(parties, effort)
    return faster(case, times, case, plain.NAME, at_least)


def _step(call: Callable, x: Any, above: Any) -> Callable[[], list[Any]]:
    """The output and the gradients of input and weights, given the one above."""
    weights = [weight.value for weight in getattr(call, "trainable_weights", [])]

    @tf.function
    def step(x, above):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = call(x)
        return [y, *tape.gradient(y, [x, *weights], above)]

    return lambda: step(x, above)


def _waited(step: Callable) -> Callable[[], None]:
    """A GPU answers before it is done."""

    def call() -> None:
        step()
        tf.test.experimental.sync_devices()

    return call
