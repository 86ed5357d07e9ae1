"""Whole autoencoders: an encoder, a decoder, and the model that joins them."""

import os
from collections.abc import Sequence
from typing import Any

import keras

from keras_cae import _checks, _parts
from keras_cae._convs import fresh
from keras_cae.blocks import DecoderBlock, EncoderBlock
from keras_cae.export import export_model
from keras_cae.layers import MaxPooling


@keras.saving.register_keras_serializable(package="keras_cae")
class Autoencoder(keras.Model):
    """An encoder and a decoder joined into one functional model of the same weights.

    Where the two are rows of layers with as many `EncoderBlock`s as `DecoderBlock`s,
    each decoder block is told the grid of its encoder block, unless it has an
    `output_size`: what comes out has the grid of what went in, and a model of unknown
    sizes computes what one of fixed sizes does. The decoder on its own, told nothing,
    returns whole strides. Other models are joined as they are.

    Args:
        encoder: A functional or Sequential model with one input and a latent output;
            or with the outputs `{"latent": ..., "switches_1": ...}`.
        decoder: A functional or Sequential model that takes what the encoder gives.
        **kwargs: `name`, `trainable`, as of `keras.Model`.

    Attributes:
        encoder: The encoder, an ordinary Keras model of the same weights.
        decoder: The decoder, likewise.

    Raises:
        ValueError: The models are not functional, or do not fit together.

    Example:
        >>> model = autoencoder((28, 28, 1), latent=16)
        >>> model.encoder.output.shape, model.decoder.output.shape
        ((None, 16), (None, 28, 28, 1))
    """

    def __init__(
        self, encoder: keras.Model, decoder: keras.Model, **kwargs: Any
    ) -> None:
        encoder = _functional("encoder", encoder)
        decoder = _functional("decoder", decoder)
        if len(encoder.inputs) != 1:
            raise ValueError(
                "`encoder` must have one input. "
                f"Received: encoder with inputs {encoder.inputs}"
            )
        super().__init__(encoder.input, _joined(encoder, decoder), **kwargs)
        self.encoder = encoder
        self.decoder = decoder

    def export(
        self,
        filepath: str | os.PathLike[str],
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        overwrite: bool = False,
        fold_norm: bool = False,
        **kwargs: Any,
    ) -> None:
        """Writes a SavedModel with endpoints, LiteRT or ONNX: see `keras_cae.export`.

        Other formats, and further arguments, are those of `keras.Model.export`.
        """
        if kwargs or format not in ("tf_saved_model", "litert", "onnx"):
            if overwrite or fold_norm:
                raise ValueError(
                    "`overwrite` and `fold_norm` go with the formats 'tf_saved_model', "
                    "'litert' and 'onnx' and no further arguments. Received: "
                    f"format={format!r}, {kwargs}"
                )
            super().export(filepath, format=format, verbose=verbose, **kwargs)
        else:
            export_model(
                self, filepath, format, overwrite=overwrite, fold_norm=fold_norm
            )

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "trainable": self.trainable,
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> "Autoencoder":
        config = dict(config)
        for part in ("encoder", "decoder"):
            config[part] = keras.saving.deserialize_keras_object(
                config[part], custom_objects=custom_objects
            )
        return cls(**config)


def _functional(name: str, model: Any) -> keras.Model:
    """A functional model of the same layers, whatever it was."""
    if isinstance(model, keras.Sequential) and model.built:
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ValueError(
            f"`{name}` must be a functional or a built Sequential model. "
            f"Received: {name}={model!r}"
        )
    return model


def _joined(encoder: keras.Model, decoder: keras.Model):
    """The output of the decoder on the latent, every block told its grid."""
    codes = encoder.output
    blocks = [x for x in _chain(encoder) if isinstance(x, EncoderBlock)]
    layers = _chain(decoder)
    stages = [layer for layer in layers if isinstance(layer, DecoderBlock)]
    if not stages or len(stages) != len(blocks):
        return decoder(codes)
    x = _parts.main(codes)
    for layer in layers:
        given = {}
        if isinstance(layer, DecoderBlock):
            if isinstance(codes, dict):
                given["switches"] = codes.get(f"switches_{len(blocks)}")
            grid = _parts.main(blocks.pop().input)
            if layer.output_size is None:
                given["like"] = grid
        x = layer(x, **given)
    return x


def _chain(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model in which each takes the output of the one before it.

    Empty for a model of another shape.
    """
    x = _parts.main(model.input)
    chain = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        if _parts.main(layer.input) is not x:
            return []
        chain.append(layer)
        x = _parts.main(layer.output)
    return chain if x is _parts.main(model.output) else []


def autoencoder(
    input_shape: Sequence[int | None],
    *,
    filters: Sequence[int] = (32, 64),
    latent: Any = None,
    pooling: Any = "max",
    unpooling: Any = "nearest",
    convs: int = 1,
    kernel_size: _checks.Sizes = 3,
    norm: Any = None,
    activation: Any = "relu",
    output_activation: Any = "sigmoid",
    dropout: float = 0.0,
    residual: bool = False,
    pool_size: _checks.Sizes = 2,
    data_format: str | None = None,
    blocks: Sequence[EncoderBlock] | None = None,
    name: str = "autoencoder",
) -> Autoencoder:
    """A convolutional autoencoder whose output has the grid of its input.

    The encoder is a row of `EncoderBlock`s, one for each entry of `filters`; the
    decoder undoes them one by one and ends in a convolution back to the channels of
    the input. Odd and prime sizes come back exactly, unknown ones too.

    Args:
        input_shape: The shape of one sample: one to three spatial axes, None where
            unknown, and the known channels, first or last as `data_format` says.
        filters: The number of channels of each encoder block.
        latent: None keeps the maps of the last block; an int makes a dense latent of
            that many numbers (all sizes must be known); a layer is used as it is.
        pooling: A name as of `EncoderBlock`, a layer (each block gets a copy), or None.
        unpooling: "linear", "nearest", "subpixel", "transposed", or "partner" for the
            inverse of each pooling ("max" then hands its switches from encoder to
            decoder); or a layer (each block gets a copy).
        convs: How many convolutions a block has.
        kernel_size: Their kernel, in cells; an int, or one for each spatial axis.
        norm: "batch", "group", "instance", "layer", a Keras layer, or None.
        activation: A Keras activation or layer.
        output_activation: A Keras activation of the last convolution. None for linear.
        dropout: The share of channels dropped behind each activation, in [0, 1).
        residual: Whether blocks add their input before the last activation.
        pool_size: The window of a pooling given by name, in cells.
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        blocks: Encoder blocks of your own, in place of `filters` and all arguments
            that describe a block; the decoder mirrors each of them.
        name: The name of the model.

    Returns:
        An `Autoencoder`; its latent is `model.encoder.output`.

    Raises:
        ValueError: An argument breaks its rule, or `latent` is an int and a size is
            unknown.

    Example:
        >>> autoencoder((None, None, 3), pooling="average").output_shape
        (None, None, None, 3)

    Reference:
        Masci et al. (2011), [Stacked convolutional auto-encoders for hierarchical
        feature extraction](https://doi.org/10.1007/978-3-642-21735-7_7).
    """
    data_format = _checks.data_format(data_format)
    input_shape = _checked_shape(input_shape, data_format)
    if blocks is None:
        layers = {"norm": norm, "activation": activation, "pooling": pooling}
        if pooling == "max" and unpooling == "partner":
            layers["pooling"] = MaxPooling(
                pool_size, data_format=data_format, return_switches=True, name="pooling"
            )
        blocks = [
            EncoderBlock(
                count,
                convs=convs,
                kernel_size=kernel_size,
                dropout=dropout,
                residual=residual,
                pool_size=pool_size,
                data_format=data_format,
                name=f"encoder_block_{number}",
                **{name: fresh(value) for name, value in layers.items()},
            )
            for number, count in enumerate(_checked_row("filters", filters), 1)
        ]
    blocks = _checked_blocks(blocks, data_format)
    encoder = _parts.encoder(input_shape, blocks, latent, unpooling)
    decoder = _parts.decoder(encoder, blocks, unpooling, output_activation)
    return Autoencoder(encoder, decoder, name=name)


def _checked_row(name: str, values: Any) -> list[Any]:
    """A sequence of at least one entry."""
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise ValueError(
            f"`{name}` must be a sequence with an entry for each encoder block, at "
            f"least one. Received: {name}={values!r}"
        )
    return list(values)


def _checked_shape(shape: Any, data_format: str) -> tuple[int | None, ...]:
    """The shape of a sample, with known channels."""
    entries = tuple(shape) if isinstance(shape, Sequence) else ()
    sizes = all(v is None or (_checks.is_int(v) and v > 0) for v in entries)
    channels = 0 if data_format == "channels_first" else -1
    if not 2 <= len(entries) <= 4 or not sizes or entries[channels] is None:
        raise ValueError(
            "`input_shape` must have one to three spatial axes, None where unknown, "
            f"and the number of channels ({data_format}). "
            f"Received: input_shape={shape!r}"
        )
    return entries


def _checked_blocks(blocks: Any, data_format: str) -> list[EncoderBlock]:
    blocks = _checked_row("blocks", blocks)
    for block in blocks:
        if not isinstance(block, EncoderBlock) or block.data_format != data_format:
            raise ValueError(
                f"`blocks` must be EncoderBlocks with data_format={data_format!r}. "
                f"Received: {block!r}"
            )
    return blocks
