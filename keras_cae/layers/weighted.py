"""Poolings in which the values of a window decide how much each of them counts."""

import math
from typing import Any

import keras
from keras import ops

from keras_cae import _checks
from keras_cae.layers import _cells, _windows

_LOWEST = -3.4e38  # of float32, nearly


@keras.saving.register_keras_serializable(package="keras_cae")
class LpPooling(_windows.PoolingLayer):
    """Takes the p-norm of each window, `(sum |x|^p)^(1/p)`.

    One class for sequences, images and volumes. p = 1 sums absolute values, a large p
    comes near their maximum. Padding does not count: with `padding="same"` the windows
    at the border take the norm of the cells that they do cover; with "valid" cells
    behind the last whole window are dropped. Where a window is all zero its gradient
    is zero.

    Args:
        pool_size: The window, in cells; an int, or one for each spatial axis.
        strides: The step from window to window, in cells. None means `pool_size`.
        padding: "same" (`ceil(size / stride)` windows) or "valid" (whole windows).
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        p: The order of the norm, positive and finite.
        learn_p: Whether to learn one p for the layer, starting from `p`, which must be
            larger than 1 then: the weight `rho` gives it as `1 + softplus(rho)`.
        **kwargs: As of `keras.layers.Layer`.

    Input shape:
        `(batch, *grid, channels)`, or `(batch, channels, *grid)`, with 1 to 3 spatial
        axes of any size, known or not.

    Output shape:
        The same with the pooled grid.

    Raises:
        ValueError: An argument or the rank of the input breaks its rule, or a window
            with "valid" padding does not fit into the grid.

    Example:
        >>> import numpy as np
        >>> x = np.reshape([3.0, -4.0, 5.0], (1, 3, 1))
        >>> np.squeeze(LpPooling(2)(x)).tolist()
        [5.0, 5.0]

    Reference:
        Sermanet et al. (2012), [Convolutional neural networks applied to house numbers
        digit classification](https://arxiv.org/abs/1204.3968), who weight the cells by
        a Gaussian; Gulcehre et al. (2014), [Learned-norm pooling for deep feedforward
        and recurrent neural networks](https://arxiv.org/abs/1311.1780), who learn p in
        this way, and a centre too, and take the mean for the sum. PyTorch's
        `LPPool2d` is equal where no value is negative: it leaves out the `| |`.
    """

    def __init__(
        self,
        pool_size: _checks.Sizes = 2,
        strides: _checks.Sizes | None = None,
        padding: str = "same",
        data_format: str | None = None,
        p: float = 2.0,
        learn_p: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        self.learn_p = _checks.flag("learn_p", learn_p)
        least = 1 if learn_p else 0
        if not _checks.is_real(p) or not least < p < math.inf:
            raise ValueError(
                "`p` must be a finite number larger than 0, or than 1 with "
                f"learn_p=True. Received: p={p!r}, learn_p={learn_p}"
            )
        self.p = float(p)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        if self.learn_p:
            excess = self.p - 1
            self.rho = self.add_weight(
                name="rho",
                shape=(),
                initializer=keras.initializers.Constant(
                    excess + math.log(-math.expm1(-excess))
                ),
                autocast=False,
            )

    def call(self, x):
        windows = self.windows_for(x.shape)
        cells = _cells.of_windows(windows, ops.abs(_cells.precise(x)))
        p = self.p
        if self.learn_p:
            p = 1 + ops.softplus(ops.cast(self.rho, cells[0].dtype))
        # Nothing overflows: the largest value of a window is 1, and so is its power.
        largest = _cells.maximum(cells)
        scale = ops.where(ops.equal(largest, 0), 1, largest)
        powers = _cells.total([_power(cell / scale, p) for cell in cells])
        return ops.cast(scale * _power(powers, 1 / p), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"p": self.p, "learn_p": self.learn_p}


def _power(x, exponent):
    """`x ** exponent` for x of 0 and more, with a gradient of 0 at 0."""
    zero = ops.equal(x, 0)
    return ops.where(zero, 0, ops.power(ops.where(zero, 1, x), exponent))


@keras.saving.register_keras_serializable(package="keras_cae")
class SoftPooling(_windows.PoolingLayer):
    """Takes the mean of each window, weighted by the softmax of its values.

    One class for sequences, images and volumes. Large values count most, and every
    value gets a gradient. Padding does not count: with `padding="same"` the windows at
    the border weight the cells that they do cover; with "valid" cells behind the last
    whole window are dropped. Large values are safe in float16 too.

    Args:
        pool_size: The window, in cells; an int, or one for each spatial axis.
        strides: The step from window to window, in cells. None means `pool_size`.
        padding: "same" (`ceil(size / stride)` windows) or "valid" (whole windows).
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        **kwargs: As of `keras.layers.Layer`.

    Input shape:
        `(batch, *grid, channels)`, or `(batch, channels, *grid)`, with 1 to 3 spatial
        axes of any size, known or not.

    Output shape:
        The same with the pooled grid.

    Raises:
        ValueError: An argument or the rank of the input breaks its rule, or a window
            with "valid" padding does not fit into the grid.

    Example:
        >>> import numpy as np
        >>> x = np.reshape([0.0, np.log(3.0), 5.0], (1, 3, 1))
        >>> np.squeeze(SoftPooling(2)(x)).tolist()
        [0.824, 5.0]

    Reference:
        Stergiou, Poppe and Kalliatakis (2021), [Refining activation downsampling with
        SoftPool](https://arxiv.org/abs/2101.00440).
    """

    def call(self, x):
        windows = self.windows_for(x.shape)
        # Finite, so that the weight of the padding, zero, times it is zero.
        cells = _cells.of_windows(windows, _cells.precise(x), _LOWEST)
        largest = _cells.maximum(cells)
        weights = [ops.exp(cell - largest) for cell in cells]
        weighted = [w * cell for w, cell in zip(weights, cells, strict=True)]
        pooled = _cells.total(weighted) / _cells.total(weights)
        return ops.cast(pooled, self.compute_dtype)
