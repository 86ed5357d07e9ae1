"""The channels of maps: where they stand, one number each, blocks of them as cells."""

from keras import ops

from keras_cae.layers import _cells


def axis_in(ndim: int, data_format: str) -> int:
    """The axis of the channels in a tensor with so many axes."""
    return 1 if data_format == "channels_first" else ndim - 1


def add_bias(x, bias, data_format: str):
    """`x` and a number for each channel, or `x` where there is none.

    They are added in float32, since the gradient of `bias` sums up over the whole map:
    in bfloat16 TensorFlow's sum is wrong by a third on a CPU.
    """
    if bias is None:
        return x
    y = _cells.precise(x)
    bias = ops.cast(bias, y.dtype)
    if data_format == "channels_last":
        y = ops.add(y, bias)
    else:
        # Not `ops.add`, nor a Keras convolution: with as many channels as the last
        # axis is long, Keras 3.12 to 3.15 add the bias along that axis on TensorFlow.
        y = y + ops.reshape(bias, (-1, *[1] * (len(x.shape) - 2)))
    return ops.cast(y, x.dtype)


def into_channels(x, axis: int, size: int, channels: int):
    """Every `size` cells along an axis made blocks of channels, the first one first."""
    shape = list(ops.shape(x))
    split = [*shape[:axis], shape[axis] // size, size, *shape[axis + 1 :]]
    moved = ops.moveaxis(ops.reshape(x, split), axis + 1, channels)
    shape[axis] = -1 if x.shape[axis] is None else shape[axis] // size
    shape[channels] = shape[channels] * size
    return ops.reshape(moved, shape)


def out_of_channels(x, axis: int, size: int, channels: int):
    """`size` blocks of channels made cells along an axis, the first one first."""
    shape = list(ops.shape(x))
    shape[channels] = shape[channels] // size
    split = [*shape[:channels], size, *shape[channels:]]
    moved = ops.moveaxis(ops.reshape(x, split), channels, axis + 1)
    shape[axis] = -1 if x.shape[axis] is None else shape[axis] * size
    return ops.reshape(moved, shape)
