"""Strided convolution as a learned pooling, and the transposed convolution back."""

from typing import Any

import keras
from keras import ops

from keras_cae import _checks
from keras_cae.layers import _channels, _windows


class _LearnedWindows(_windows.WindowLayer):
    """What both directions share: filters, kernel and bias."""

    def __init__(
        self,
        pool_size: _checks.Sizes = 2,
        strides: _checks.Sizes | None = None,
        padding: str = "same",
        data_format: str | None = None,
        filters: int | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        self.filters = None
        if filters is not None:
            self.filters = _checks.positive_int("filters", filters)
        self.use_bias = _checks.flag("use_bias", use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        channels = _checks.channels(self.name, input_shape, self.data_format)
        filters = channels if self.filters is None else self.filters
        self.kernel = self.add_weight(
            name="kernel",
            shape=(
                *self.windows_for(input_shape).pool_size,
                *self._kernel_channels(channels, filters),
            ),
            initializer=self.kernel_initializer,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias", shape=(filters,), initializer="zeros"
            )

    def _kernel_channels(self, channels: int, filters: int) -> tuple[int, int]:
        raise NotImplementedError

    def _with_filters(self, shape: Any) -> tuple[Any, ...]:
        """`shape` with the channels of the output."""
        if self.filters is None:
            return tuple(shape)
        axis = _channels.axis_in(len(shape), self.data_format)
        return _windows.with_grid(shape, (axis,), (self.filters,))

    def _biased(self, x):
        return _channels.add_bias(x, self.bias, self.data_format)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "filters": self.filters,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable(package="keras_cae")
class StridedConv(_LearnedWindows):
    """A convolution that steps by its stride: pooling with learned weights.

    Mixes channels. The border is padded with zeros for `padding="same"`; with "valid"
    cells behind the last whole window are dropped.

    Args:
        pool_size: The kernel, in cells; an int, or one for each spatial axis.
        strides: The step from window to window, in cells. None means `pool_size`.
        padding: "same" (`ceil(size / stride)` windows) or "valid" (whole windows).
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        filters: The number of output channels. None keeps those of the input.
        use_bias: Whether to add a learned bias to each channel.
        kernel_initializer: A Keras initializer or its name.
        **kwargs: As of `keras.layers.Layer`.

    Input shape:
        `(batch, *grid, channels)`, or `(batch, channels, *grid)`, with 1 to 3 spatial
        axes of any size, known or not. The channels must be known.

    Output shape:
        The same with the pooled grid and `filters` channels.

    Raises:
        ValueError: An argument or the rank of the input breaks its rule, or a window
            with "valid" padding does not fit into the grid.

    Example:
        >>> import numpy as np
        >>> StridedConv(2, filters=8)(np.zeros((1, 7, 7, 3))).shape
        TensorShape([1, 4, 4, 8])

    Reference:
        Springenberg et al. (2015), [Striving for simplicity: the all convolutional
        net](https://arxiv.org/abs/1412.6806).
    """

    def _kernel_channels(self, channels: int, filters: int) -> tuple[int, int]:
        return channels, filters

    def call(self, x):
        windows = self.windows_for(x.shape)
        windows.pooled_grid([x.shape[axis] for axis in windows.axes])  # do they fit?
        y = ops.conv(
            x, self.kernel, windows.strides, self.padding, data_format=self.data_format
        )
        return self._biased(y)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        windows = self.windows_for(input_shape)
        grid = windows.pooled_grid([input_shape[axis] for axis in windows.axes])
        shape = _windows.with_grid(input_shape, windows.axes, grid)
        return self._with_filters(shape)


@keras.saving.register_keras_serializable(package="keras_cae")
class TransposedConv(_LearnedWindows):
    """The adjoint of a strided convolution, with weights of its own.

    With the kernel of a `StridedConv` of the same arguments, no bias and `like=x`,
    `<conv(x), y> == <x, transposed(y)>` for all x and y, at the border too. A
    `pool_size` that the stride does not divide leaves a checkerboard (Odena 2016).

    Called as `layer(x, like=None)`. `like` is a tensor or a shape whose grid is
    restored; without it the grid is that of whole strides (`size * stride`), or with
    "valid" padding that of whole windows.

    Args:
        pool_size: The kernel, in cells; an int, or one for each spatial axis.
        strides: The factor by which the grid grows. None means `pool_size`.
        padding: The padding of the convolution it undoes, "same" or "valid".
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        filters: The number of output channels. None keeps those of the input.
        use_bias: Whether to add a learned bias to each channel.
        kernel_initializer: A Keras initializer or its name.
        **kwargs: As of `keras.layers.Layer`.

    Input shape:
        `(batch, *pooled grid, channels)`, or channels first; known channels.

    Output shape:
        The same with the grid of `like`, or the one above, and `filters` channels.

    Raises:
        ValueError: An argument or the rank of the input breaks its rule, or `like`
            does not pool to the grid of the input.

    Example:
        >>> import numpy as np
        >>> TransposedConv(2, filters=3)(np.zeros((1, 4, 4, 8)), like=(7, 7)).shape
        TensorShape([1, 7, 7, 3])

    Reference:
        Zeiler et al. (2010), [Deconvolutional
        networks](https://doi.org/10.1109/CVPR.2010.5539957); Odena et al. (2016),
        [Deconvolution and checkerboard artifacts](https://doi.org/10.23915/distill.00003).
    """

    def _kernel_channels(self, channels: int, filters: int) -> tuple[int, int]:
        return filters, channels

    def call(self, x, like=None):
        windows = self.windows_for(x.shape)
        grid = windows.target(x, like)
        y = ops.conv_transpose(
            x, self.kernel, windows.strides, "valid", data_format=self.data_format
        )
        pooled = _windows.grid_of(x, windows.axes)
        return self._biased(windows.restore(y, pooled, grid))

    def compute_output_shape(
        self, input_shape: Any, like: Any = None
    ) -> tuple[Any, ...]:
        windows = self.windows_for(input_shape)
        pooled = [input_shape[axis] for axis in windows.axes]
        grid = windows.restored_grid(pooled, like)
        return self._with_filters(_windows.with_grid(input_shape, windows.axes, grid))

    def compute_output_spec(self, x, like: Any = None):
        shape = self.compute_output_shape(x.shape, like)
        return keras.KerasTensor(shape, self.compute_dtype)
