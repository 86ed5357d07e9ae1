"""Sub-pixel convolution: the cells of the larger grid as channels of the smaller."""

import math
from typing import Any

import keras
from keras import ops

from keras_cae import _checks
from keras_cae.layers import _channels, _windows
from keras_cae.layers.upsampling_conv import KernelUpsampling


@keras.saving.register_keras_serializable(package="keras_cae")
class SubpixelConv(KernelUpsampling):
    """A convolution on the small grid whose channels become cells of the larger one.

    The convolution (zeros around the grid) gives each cell `prod(size)` values a
    filter, ordered by cell, in reading order, then by filter, as
    `tf.nn.depth_to_space` wants them; they become a window of `size` cells. At the
    start all of them have the same kernel (ICNR), so that the layer begins without a
    checkerboard, as that convolution with `filters` channels and `Upsampling(size)`
    behind it.

    Called as `layer(x, like=None)`. `like` is a tensor or a shape whose grid is
    restored: what is too much is cut off evenly, at the end first, as "same" pooling
    pads; what is missing repeats the border.

    Args:
        filters: The number of output channels. None keeps those of the input.
        kernel_size: The kernel, in cells of the input; an int, or one for each
            spatial axis.
        size: The factor; an int, or one for each spatial axis.
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        use_bias: Whether to add a learned bias to each channel before the shuffle.
        kernel_initializer: A Keras initializer or its name, for the kernel that all
            cells of a window start with.
        **kwargs: As of `keras.layers.Layer`.

    Input shape:
        `(batch, *grid, channels)`, or `(batch, channels, *grid)`, with 1 to 3 spatial
        axes of any size, known or not. The channels must be known.

    Output shape:
        The same with `size` times the grid, or the grid of `like`, and `filters`
        channels.

    Raises:
        ValueError: An argument or the rank of the input breaks its rule, or the grid
            of `like` is so small that whole cells of the input would be cut off.

    Example:
        >>> import numpy as np
        >>> SubpixelConv(8)(np.zeros((1, 4, 4, 16)), like=(7, 7)).shape
        TensorShape([1, 7, 7, 8])

    Reference:
        Shi et al. (2016), [Real-time single image and video super-resolution using an
        efficient sub-pixel convolutional neural
        network](https://arxiv.org/abs/1609.05158); Aitken et al. (2017),
        [Checkerboard artifact free sub-pixel
        convolution](https://arxiv.org/abs/1707.02937), for the start.
    """

    def __init__(
        self,
        filters: int | None = None,
        kernel_size: _checks.Sizes = 3,
        size: _checks.Sizes = 2,
        data_format: str | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            filters,
            kernel_size,
            size,
            interpolation="nearest",
            data_format=data_format,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            **kwargs,
        )

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        phases = math.prod(self._factors(input_shape).values())

        def icnr(shape: Any, dtype: Any = None):
            one = self.kernel_initializer((*shape[:-1], shape[-1] // phases), dtype)
            return ops.tile(one, (*(1 for _ in shape[:-1]), phases))

        self._add_weights(input_shape, phases, icnr)

    def call(self, x, like=None):
        self.compute_output_shape(x.shape, like)
        factors = self._factors(x.shape)
        asked = _windows.asked_grid(like, tuple(factors))
        x = self._biased(self._convolve(ops.cast(x, self.compute_dtype)))
        channels = _channels.axis_in(len(x.shape), self.data_format)
        for axis, factor in factors.items():
            x = _channels.out_of_channels(x, axis, factor, channels)
        return x if asked is None else _windows.fit(x, tuple(factors), asked)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["interpolation"]
        return config
