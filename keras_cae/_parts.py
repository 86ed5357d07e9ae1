"""The encoder and the decoder of `autoencoder()`, two ordinary functional models."""

import math
from typing import Any

import keras

from keras_cae import _checks
from keras_cae._convs import activation_of, fresh
from keras_cae.blocks import DecoderBlock, EncoderBlock
from keras_cae.layers import MaxUnpooling, pairs
from keras_cae.layers._conv import conv


def main(tensors: Any):
    """Of several inputs or outputs the one that others go along with."""
    if isinstance(tensors, dict):
        return tensors["latent"]
    return keras.tree.flatten(tensors)[0]


def encoder(
    input_shape: Any, blocks: list[EncoderBlock], latent: Any, unpooling: Any
) -> keras.Model:
    """The blocks in a row, then the bottleneck; with switches if they are wanted."""
    x = image = keras.Input(input_shape, name="image")
    switches = {}
    for number, block in enumerate(blocks, 1):
        x = block(x)
        if isinstance(x, (tuple, list)):
            x, switches[f"switches_{number}"] = x
    x = _bottleneck(x, latent)
    if switches and _wants_switches(unpooling):
        x = {"latent": x, **switches}
    return keras.Model(image, x, name="encoder")


def _wants_switches(unpooling: Any) -> bool:
    return unpooling == "partner" or isinstance(unpooling, MaxUnpooling)


def _bottleneck(x, latent: Any):
    if latent is None:
        return x
    if isinstance(latent, keras.layers.Layer):
        return latent(x)
    latent = _checks.positive_int("latent", latent)
    if None in x.shape[1:]:
        raise ValueError(
            "`latent` as an int needs an `input_shape` without None. Received: "
            f"latent={latent}, encoder maps of shape {x.shape}"
        )
    return keras.layers.Dense(latent, name="latent")(keras.layers.Flatten()(x))


def decoder(
    encoder: keras.Model,
    blocks: list[EncoderBlock],
    unpooling: Any,
    output_activation: Any,
) -> keras.Model:
    """The inverse of each block in a row, then a convolution back to the image."""
    given = encoder.output
    given = given if isinstance(given, dict) else {"latent": given}
    inputs = {
        name: keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)
        for name, tensor in given.items()
    }
    x = _maps(inputs["latent"], main(blocks[-1].output).shape)
    for number in range(len(blocks), 0, -1):
        block = _mirrored(
            blocks[number - 1],
            _channels(blocks[number - 1]) if number > 1 else blocks[0].filters,
            unpooling,
            name=f"decoder_block_{len(blocks) + 1 - number}",
        )
        # The switches of the block before tell the grid even where sizes are unknown.
        finer = None if block.output_size else inputs.get(f"switches_{number - 1}")
        x = block(x, switches=inputs.get(f"switches_{number}"), like=finer)
    x = _image(x, encoder.input, blocks[0], output_activation)
    return keras.Model(
        inputs if len(inputs) > 1 else inputs["latent"], x, name="decoder"
    )


def _maps(x, shape: Any):
    """Maps of this shape from a dense latent; other latents are maps already."""
    if len(x.shape) == len(shape):
        return x
    if len(x.shape) != 2 or None in shape[1:]:
        raise ValueError(
            "`latent` must give maps, or one vector for maps of known sizes. Received: "
            f"a latent of shape {x.shape} for maps of shape {shape}"
        )
    x = keras.layers.Dense(math.prod(shape[1:]), name="expand")(x)
    return keras.layers.Reshape(shape[1:])(x)


def _mirrored(
    block: EncoderBlock, filters: int, unpooling: Any, name: str
) -> DecoderBlock:
    """The decoder block that undoes an encoder block."""
    shape = main(block.input).shape
    grid = shape[2:] if block.data_format == "channels_first" else shape[1:-1]
    pooling = block.pooling_layer
    if pooling is None:
        unpooling = None
    elif unpooling == "partner":
        unpooling = _partner(pooling)
    return DecoderBlock(
        filters,
        convs=block.convs,
        kernel_size=block.kernel_size,
        norm=fresh(block.norm),
        activation=fresh(block.activation),
        dropout=block.dropout,
        residual=block.residual,
        unpooling=fresh(unpooling),
        size=1 if pooling is None else pairs.factor_of(pooling),
        output_size=None if None in grid else grid,
        data_format=block.data_format,
        name=name,
    )


def _channels(block: EncoderBlock) -> int:
    """How many channels a block takes in."""
    axis = 1 if block.data_format == "channels_first" else -1
    return main(block.input).shape[axis]


def _partner(pooling: keras.layers.Layer) -> keras.layers.Layer:
    partner = pairs.partner_of(pooling)
    if isinstance(partner, MaxUnpooling) and not getattr(
        pooling, "return_switches", False
    ):
        raise ValueError(
            '`unpooling="partner"` needs a max pooling that returns its switches: '
            "keras_cae.layers.MaxPooling(..., return_switches=True). "
            f"Received: pooling={pooling!r}"
        )
    return partner


def _image(x, image, block: EncoderBlock, activation: Any):
    """The channels of the image, in float32 so that a loss on them is exact.

    The convolution too: in bfloat16 it made the test error of the demo 2 % larger.
    """
    x = conv(
        len(image.shape) - 2,
        _channels(block),
        block.kernel_size,
        data_format=block.data_format,
        name="output_conv",
        dtype="float32",
    )(x)
    end = keras.layers.Activation(
        activation_of("output_activation", activation),
        dtype="float32",
        name="reconstruction",
    )
    return end(x)
