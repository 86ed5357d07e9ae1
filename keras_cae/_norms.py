"""Batch normalization as a part of the convolution in front of it."""

from typing import Any

import keras
from keras import ops

from keras_cae._convs import ConvBlock
from keras_cae.layers import _channels


def without_norms(model: Any) -> Any:
    """A copy of an autoencoder that gives the same at inference, without batch norms.

    At inference `norm(y) = gamma * (y - mean) / sqrt(variance + epsilon) + beta` is
    linear in each channel, and so is the convolution in front of it. With `scale =
    gamma / sqrt(variance + epsilon)` both are one convolution of the kernel `scale *
    kernel` and the bias `beta + scale * (bias - mean)`.

    Other norms, and norms in layers that are no blocks, stay as they are.
    """
    parts = [model.encoder, model.decoder]
    copies = [keras.models.clone_model(p, clone_function=_copy) for p in parts]
    for part, copy in zip(parts, copies, strict=True):
        for old, new in zip(part.layers, copy.layers, strict=True):
            if _folds(old):
                _fold(old, new)
            else:
                new.set_weights(old.get_weights())
    return type(model)(*copies, name=model.name)


def _folds(layer: Any) -> bool:
    if not isinstance(layer, ConvBlock) or layer.norm is None:
        return False
    rank = len(layer._stages[0][0][0].kernel.shape) - 2
    channels = _channels.axis_in(rank + 2, layer.data_format)
    return all(
        type(norm) is keras.layers.BatchNormalization
        and norm.axis % (rank + 2) == channels
        for (_, norm), _ in layer._stages
    )


def _copy(layer: keras.layers.Layer) -> keras.layers.Layer:
    changed = {"norm": None} if _folds(layer) else {}
    return type(layer).from_config(layer.get_config() | changed)


def _fold(old: Any, new: Any) -> None:
    """Gives a block without norms the weights of the one that it stands for."""
    parts = {part.name: part for part in old.layers}
    for ((conv, norm), _), ((folded,), _) in zip(old._stages, new._stages, strict=True):
        del parts[conv.name], parts[norm.name]
        scale = ops.rsqrt(norm.moving_variance + norm.epsilon)
        scale = scale if norm.gamma is None else scale * norm.gamma
        bias = (0 if conv.bias is None else conv.bias) - norm.moving_mean
        folded.kernel.assign(conv.kernel * scale)
        folded.bias.assign(bias * scale + (0 if norm.beta is None else norm.beta))
    for part in new.layers:
        weights = parts[part.name].weights if part.name in parts else []
        # A shortcut has gained a bias, which stays 0.
        for weight, copy in zip(weights, part.weights, strict=False):
            copy.assign(weight)
