"""When an activation may come behind a pooling, on the smaller grid."""

from typing import Any

import keras

from keras_cae.layers import MaxPooling

_NON_DECREASING = (
    keras.activations.celu,
    keras.activations.elu,
    keras.activations.exponential,
    keras.activations.hard_sigmoid,
    keras.activations.hard_tanh,
    keras.activations.leaky_relu,
    keras.activations.linear,
    keras.activations.log_sigmoid,
    keras.activations.relu,
    keras.activations.relu6,
    keras.activations.selu,
    keras.activations.sigmoid,
    keras.activations.softplus,
    keras.activations.softsign,
    keras.activations.tanh,
)

_MAXIMA = (
    MaxPooling,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
)


def pools_early(pooling: Any, activation: Any, dtype: str) -> bool:
    """Whether `activation(pooling(x))` is `pooling(activation(x))`, and nobody looks.

    For an activation f that never decreases, `max(f(x))` is `f(max(x))`: the same
    cell wins, or one of equal value behind f, whose gradient is then 0 either way.
    Dropping whole channels commutes with the maximum too. Not where switches tell
    which cell won, where the pooling changes the `dtype` of the maps, and not while
    someone watches what the pooling takes in or gives.
    """
    switches = getattr(pooling, "return_switches", False)
    maximum = type(pooling) in _MAXIMA and not switches
    watched = "call" in vars(pooling) or pooling.activity_regularizer is not None
    commutes = maximum and activation in _NON_DECREASING
    return commutes and not watched and pooling.compute_dtype == dtype
