"""Poolings between the maximum and the mean, in proportions that are learned."""

import math
from typing import Any

import keras
from keras import ops

from keras_cae import _checks
from keras_cae.layers import _cells, _windows
from keras_cae.layers.average import shares


@keras.saving.register_keras_serializable(package="keras_cae")
class MixedPooling(_windows.PoolingLayer):
    """Mixes the maximum and the mean of each window, in a learned proportion.

    One class for sequences, images and volumes. The weight `logit` gives the share of
    the maximum as `sigmoid(logit)`. Padding does not count: with `padding="same"` the
    windows at the border pool the cells that they do cover; with "valid" cells behind
    the last whole window are dropped.

    Args:
        pool_size: The window, in cells; an int, or one for each spatial axis.
        strides: The step from window to window, in cells. None means `pool_size`.
        padding: "same" (`ceil(size / stride)` windows) or "valid" (whole windows).
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        mix: The share of the maximum to start from, between 0 and 1.
        per_channel: Whether each channel learns a share of its own; if not, the layer
            learns one.
        **kwargs: As of `keras.layers.Layer`.

    Input shape:
        `(batch, *grid, channels)`, or `(batch, channels, *grid)`, with 1 to 3 spatial
        axes of any size, known or not. With `per_channel` the channels must be known.

    Output shape:
        The same with the pooled grid.

    Raises:
        ValueError: An argument or the rank of the input breaks its rule, or a window
            with "valid" padding does not fit into the grid.

    Example:
        >>> import numpy as np
        >>> x = np.reshape([1.0, 3.0, 5.0], (1, 3, 1))
        >>> np.squeeze(MixedPooling(2, mix=0.75)(x)).tolist()
        [2.75, 5.0]

    Reference:
        Lee, Gallagher and Tu (2016), [Generalizing pooling functions in convolutional
        neural networks: mixed, gated, and tree](https://arxiv.org/abs/1509.08985), who
        ask for a share between 0 and 1; the sigmoid, which keeps it there, is ours.
    """

    def __init__(
        self,
        pool_size: _checks.Sizes = 2,
        strides: _checks.Sizes | None = None,
        padding: str = "same",
        data_format: str | None = None,
        mix: float = 0.5,
        per_channel: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        if not _checks.is_real(mix) or not 0 < mix < 1:
            raise ValueError(
                "`mix` must be a number between 0 and 1, neither of them. "
                f"Received: mix={mix!r}"
            )
        self.mix = float(mix)
        self.per_channel = _checks.flag("per_channel", per_channel)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.logit = self.add_weight(
            name="logit",
            shape=(_proportions(self, input_shape),),
            initializer=keras.initializers.Constant(
                math.log(self.mix) - math.log1p(-self.mix)
            ),
            autocast=False,
        )

    def call(self, x):
        x = _cells.precise(x)
        logit = _beside_channels(self, ops.cast(self.logit, x.dtype), x)
        return _mixed(self, x, ops.sigmoid(logit))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "mix": self.mix,
            "per_channel": self.per_channel,
        }


@keras.saving.register_keras_serializable(package="keras_cae")
class GatedPooling(_windows.PoolingLayer):
    """Mixes the maximum and the mean of each window, in proportions it reads from it.

    One class for sequences, images and volumes. A learned kernel of the size of the
    window looks at its values; the sigmoid of their weighted sum is the share of the
    maximum. Padding does not count: with `padding="same"` the windows at the border
    pool, and are gated by, the cells that they do cover; with "valid" cells behind the
    last whole window are dropped.

    Args:
        pool_size: The window, in cells; an int, or one for each spatial axis.
        strides: The step from window to window, in cells. None means `pool_size`.
        padding: "same" (`ceil(size / stride)` windows) or "valid" (whole windows).
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        per_channel: Whether each channel learns a kernel of its own; if not, the layer
            learns one for all.
        kernel_initializer: A Keras initializer or its name. Zeros start from equal
            shares of maximum and mean.
        **kwargs: As of `keras.layers.Layer`.

    Input shape:
        `(batch, *grid, channels)`, or `(batch, channels, *grid)`, with 1 to 3 spatial
        axes of any size, known or not. With `per_channel` the channels must be known.

    Output shape:
        The same with the pooled grid.

    Raises:
        ValueError: An argument or the rank of the input breaks its rule, or a window
            with "valid" padding does not fit into the grid.

    Example:
        >>> import numpy as np
        >>> x = np.reshape([1.0, 3.0, 5.0], (1, 3, 1))
        >>> np.squeeze(GatedPooling(2)(x)).tolist()
        [2.5, 5.0]

    Reference:
        Lee, Gallagher and Tu (2016), [Generalizing pooling functions in convolutional
        neural networks: mixed, gated, and tree](https://arxiv.org/abs/1509.08985).
    """

    def __init__(
        self,
        pool_size: _checks.Sizes = 2,
        strides: _checks.Sizes | None = None,
        padding: str = "same",
        data_format: str | None = None,
        per_channel: bool = False,
        kernel_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        self.per_channel = _checks.flag("per_channel", per_channel)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        pool_size = self.windows_for(input_shape).pool_size
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*pool_size, _proportions(self, input_shape)),
            initializer=self.kernel_initializer,
            autocast=False,
        )

    def call(self, x):
        windows = self.windows_for(x.shape)
        x = _cells.precise(x)
        cells = _cells.of_windows(windows, x)
        kernel = ops.reshape(ops.cast(self.kernel, x.dtype), (len(cells), -1))
        kernel = ops.unstack(_beside_channels(self, kernel, x), len(cells))
        gate = _cells.total([w * cell for w, cell in zip(kernel, cells, strict=True)])
        return _mixed(self, x, ops.sigmoid(gate))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "per_channel": self.per_channel,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _proportions(layer: Any, input_shape: Any) -> int:
    """How many proportions a layer learns: one, or one for each channel."""
    if not layer.per_channel:
        return 1
    return _checks.channels(layer.name, input_shape, layer.data_format)


def _beside_channels(layer: Any, weights, x):
    """Weights with the channels last, in the shape that multiplies `x`."""
    if layer.data_format == "channels_last":
        return weights
    return ops.reshape(weights, (*weights.shape, *(1 for _ in x.shape[2:])))


def _mixed(layer: Any, x, share):
    """`share` of the maximum of each window, the rest of its mean."""
    windows = layer.windows_for(x.shape)
    window = (windows.pool_size, windows.strides, "valid", layer.data_format)
    largest = ops.max_pool(windows.pad(x, -float("inf")), *window)
    mean = ops.average_pool(windows.pad(x), *window)
    for part in shares(windows, mean, _windows.grid_of(x, windows.axes)):
        mean = mean / part
    return ops.cast(share * largest + (1 - share) * mean, layer.compute_dtype)
