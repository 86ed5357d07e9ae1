"""The names of poolings and unpoolings, and which belongs to which."""

import inspect
from typing import Any

import keras

from keras_cae import _checks
from keras_cae.layers.average import AveragePooling, AverageUnpooling
from keras_cae.layers.blur import BlurPooling, BlurUnpooling, MaxBlurPooling
from keras_cae.layers.haar import HaarPooling, HaarUnpooling
from keras_cae.layers.max import MaxPooling, MaxUnpooling
from keras_cae.layers.mixed import GatedPooling, MixedPooling
from keras_cae.layers.rearrange import DepthToSpace, SpaceToDepth
from keras_cae.layers.resize import Upsampling
from keras_cae.layers.stochastic import StochasticPooling
from keras_cae.layers.strided import StridedConv, TransposedConv
from keras_cae.layers.subpixel import SubpixelConv
from keras_cae.layers.weighted import LpPooling, SoftPooling

POOLINGS: dict[str, type[keras.layers.Layer]] = {
    "average": AveragePooling,
    "blur": BlurPooling,
    "gated": GatedPooling,
    "haar": HaarPooling,
    "lp": LpPooling,
    "max": MaxPooling,
    "max_blur": MaxBlurPooling,
    "mixed": MixedPooling,
    "soft": SoftPooling,
    "space_to_depth": SpaceToDepth,
    "stochastic": StochasticPooling,
    "strided": StridedConv,
}

UNPOOLINGS = ("linear", "nearest", "subpixel", "transposed")

# Poolings that are no linear map, nor tell where a value stood, have no inverse of
# their own: nearest up-sampling repeats the value that stands for the window.
_PARTNERS: dict[type[keras.layers.Layer], type[keras.layers.Layer]] = {
    AveragePooling: AverageUnpooling,
    BlurPooling: BlurUnpooling,
    GatedPooling: Upsampling,
    HaarPooling: HaarUnpooling,
    LpPooling: Upsampling,
    MaxBlurPooling: BlurUnpooling,
    MaxPooling: MaxUnpooling,
    MixedPooling: Upsampling,
    SoftPooling: Upsampling,
    SpaceToDepth: DepthToSpace,
    StochasticPooling: Upsampling,
    StridedConv: TransposedConv,
    **{
        getattr(keras.layers, f"{name}{rank}D"): partner
        for rank in (1, 2, 3)
        for name, partner in (
            ("MaxPooling", MaxUnpooling),
            ("AveragePooling", AverageUnpooling),
            ("Conv", TransposedConv),
        )
    },
}


def pooling_named(name: str, pool_size: Any, /, **kwargs: Any) -> keras.layers.Layer:
    """The pooling of this name; `kwargs` as of any layer, and `data_format`."""
    return POOLINGS[_checks.choice("pooling", name, POOLINGS)](pool_size, **kwargs)


def unpooling_named(name: str, size: Any, /, **kwargs: Any) -> keras.layers.Layer:
    """The unpooling of this name; `kwargs` as of any layer, and `data_format`."""
    if name == "partner":
        raise ValueError(
            '`unpooling="partner"` needs to know the pooling, as autoencoder() does. '
            "Pass keras_cae.layers.partner_of(pooling) instead. "
            f"Received: unpooling={name!r}"
        )
    _checks.choice("unpooling", name, UNPOOLINGS)
    if name == "transposed":
        return TransposedConv(size, **kwargs)
    if name == "subpixel":
        return SubpixelConv(size=size, **kwargs)
    return Upsampling(size, name if name == "linear" else "nearest", **kwargs)


def partner_of(pooling: keras.layers.Layer) -> keras.layers.Layer:
    """The layer that undoes a pooling, with the same windows.

    A max pooling is undone by its switches, so it has to give them:
    `MaxPooling(..., return_switches=True)`; Keras' own does not. Blur, Haar and
    average pooling, space-to-depth and strided convolution have an inverse or adjoint
    of their own; for the other poolings it is nearest up-sampling.

    Args:
        pooling: A pooling layer of this package; or a MaxPooling, AveragePooling or
            strided Conv of Keras.

    Returns:
        A new layer, called as `partner(pooled, like=x)`; for max pooling as
        `partner(pooled, switches=switches, like=x)`.

    Raises:
        ValueError: The layer has no partner; or it is a convolution that is not built
            yet, does not step, or has groups or a dilation.

    Example:
        >>> partner_of(keras.layers.AveragePooling2D(3, strides=2)).strides
        (2, 2)

    Reference:
        Zeiler and Fergus (2014), [Visualizing and understanding convolutional
        networks](https://arxiv.org/abs/1311.2901), who undo each layer by a partner.
    """
    kinds = [kind for kind in type(pooling).__mro__ if kind in _PARTNERS]
    if not kinds:
        names = sorted({layer.__name__ for layer in _PARTNERS})
        raise ValueError(
            f"`pooling` must be a layer with a partner: {names}. Received: {pooling!r}"
        )
    partner = _PARTNERS[kinds[0]]
    settings = {"data_format": pooling.data_format, "dtype": pooling.dtype_policy}
    if partner is Upsampling:
        return Upsampling(factor_of(pooling), **settings)
    if partner is TransposedConv:
        settings |= _of_convolution(pooling)
    known = inspect.signature(partner.__init__).parameters
    for name in ("pool_size", "strides", "padding", "filter_size"):
        if name in known and hasattr(pooling, name):
            settings[name] = getattr(pooling, name)
    return partner(**settings)


def _of_convolution(conv: keras.layers.Layer) -> dict[str, Any]:
    """What the transposed convolution of a strided one needs."""
    settings = {"use_bias": conv.use_bias, "filters": None}
    if not isinstance(conv, StridedConv):
        settings["pool_size"] = conv.kernel_size
    plain = getattr(conv, "groups", 1) == 1 and conv.padding != "causal"
    dilation = keras.tree.flatten(getattr(conv, "dilation_rate", 1))
    steps = keras.tree.flatten(factor_of(conv))
    ours = isinstance(conv, StridedConv)
    if not plain or set(dilation) != {1} or (set(steps) == {1} and not ours):
        raise ValueError(
            "`pooling` as a convolution must step by more than 1, without groups, "
            f"dilation and causal padding. Received: {conv!r} with "
            f"strides={conv.strides}"
        )
    if conv.built:
        return settings | {"filters": conv.kernel.shape[-2]}
    if not ours or conv.filters is not None:
        raise ValueError(
            "`pooling` must be built, since its partner has to give back its channels. "
            f"Received: {conv!r}"
        )
    return settings


def factor_of(pooling: keras.layers.Layer) -> Any:
    """By how much a pooling shrinks the grid, as the `size` of its unpooling."""
    for name in ("strides", "pool_size"):
        if getattr(pooling, name, None) is not None:
            return getattr(pooling, name)
    raise ValueError(
        "`pooling` must be a layer with `strides` or a `pool_size`, so that a decoder "
        f"knows what to undo. Received: {pooling!r}"
    )
