"""The names of poolings and unpoolings, and which belongs to which."""

from typing import Any

import keras

from keras_cae import _checks
from keras_cae.layers import _windows
from keras_cae.layers.average import AveragePooling, AverageUnpooling
from keras_cae.layers.max import MaxPooling, MaxUnpooling
from keras_cae.layers.resize import Upsampling
from keras_cae.layers.strided import StridedConv, TransposedConv

POOLINGS: dict[str, type[keras.layers.Layer]] = {
    "average": AveragePooling,
    "max": MaxPooling,
    "strided": StridedConv,
}

UNPOOLINGS: dict[str, tuple[type[keras.layers.Layer], dict[str, Any]]] = {
    "linear": (Upsampling, {"interpolation": "linear"}),
    "nearest": (Upsampling, {"interpolation": "nearest"}),
    "transposed": (TransposedConv, {}),
}

_PARTNERS: dict[type[keras.layers.Layer], type[keras.layers.Layer]] = {
    AveragePooling: AverageUnpooling,
    MaxPooling: MaxUnpooling,
    StridedConv: TransposedConv,
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
    layer, settings = UNPOOLINGS[_checks.choice("unpooling", name, UNPOOLINGS)]
    return layer(size, **settings, **kwargs)


def partner_of(pooling: keras.layers.Layer) -> keras.layers.Layer:
    """The layer that undoes a pooling, with the same windows.

    Args:
        pooling: A pooling layer. A `MaxPooling` must return its switches.

    Returns:
        A new layer, called as `partner(pooled, like=x)`; for `MaxPooling` as
        `partner(pooled, switches=switches, like=x)`.

    Raises:
        ValueError: The layer has no partner, or gives no switches to undo it with.

    Example:
        >>> partner_of(AveragePooling(3, strides=2)).strides
        2
    """
    partner = _PARTNERS.get(type(pooling))
    if partner is None:
        names = sorted(layer.__name__ for layer in _PARTNERS)
        raise ValueError(
            f"`pooling` must be a layer with a partner: {names}. Received: {pooling!r}"
        )
    if isinstance(pooling, MaxPooling) and not pooling.return_switches:
        raise ValueError(
            "`pooling` must return its switches to be undone: "
            f"MaxPooling(..., return_switches=True). Received: {pooling!r}"
        )
    config = _windows.WindowLayer.get_config(pooling)
    return partner(**{k: v for k, v in config.items() if k != "name"})


def factor_of(pooling: keras.layers.Layer) -> Any:
    """By how much a pooling shrinks the grid, as the `size` of its unpooling."""
    for name in ("strides", "pool_size"):
        if getattr(pooling, name, None) is not None:
            return getattr(pooling, name)
    raise ValueError(
        "`pooling` must be a layer with `strides` or a `pool_size`, so that a decoder "
        f"knows what to undo. Received: {pooling!r}"
    )
