"""Up-sampling, then a convolution, for less than the two cost one after the other."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cae import _checks
from keras_cae.layers import _channels, _windows
from keras_cae.layers.resize import Upsampling


class KernelUpsampling(Upsampling):
    """An up-sampling with a kernel and a bias: checked, kept, made and saved."""

    def __init__(
        self,
        filters: int | None,
        kernel_size: _checks.Sizes = 3,
        size: _checks.Sizes = 2,
        interpolation: str = "nearest",
        data_format: str | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(size, interpolation, data_format, **kwargs)
        self.filters = None
        if filters is not None:
            self.filters = _checks.positive_int("filters", filters)
        self.kernel_size = _checks.sizes("kernel_size", kernel_size)
        self.use_bias = _checks.flag("use_bias", use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def _add_weights(self, input_shape: Any, phases: int, initializer: Any) -> None:
        """Those of a convolution that gives `phases` values for each filter."""
        rank = len(input_shape) - 2
        kernel_size = _checks.per_axis("kernel_size", self.kernel_size, rank)
        channels = _checks.channels(self.name, input_shape, self.data_format)
        outputs = phases * (channels if self.filters is None else self.filters)
        self.input_spec = keras.layers.InputSpec(
            ndim=rank + 2,
            axes={_channels.axis_in(rank + 2, self.data_format): channels},
        )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*kernel_size, channels, outputs),
            initializer=initializer,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias", shape=(outputs,), initializer="zeros"
            )

    def _convolve(self, x):
        """The convolution that keeps the grid, with zeros around it."""
        return ops.conv(x, self.kernel, 1, "same", data_format=self.data_format)

    def _biased(self, x):
        return _channels.add_bias(x, self.bias, self.data_format)

    def compute_output_shape(
        self, input_shape: Any, like: Any = None
    ) -> tuple[Any, ...]:
        shape = super().compute_output_shape(input_shape, like)
        if self.filters is None:
            return shape
        axis = _channels.axis_in(len(shape), self.data_format)
        return _windows.with_grid(shape, (axis,), (self.filters,))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable(package="keras_cae")
class UpsamplingConv(KernelUpsampling):
    """Up-sampling, then a convolution that keeps the larger grid.

    The same function as `Upsampling(size, interpolation)` and a Keras convolution with
    `padding="same"` behind it (zeros around the larger grid), with that convolution's
    weights. Where an equal form is cheaper it is taken: nearest up-sampling and an odd
    kernel are one transposed convolution, about twice as fast; a 1x1 convolution that
    adds no channels comes first. Results differ by rounding only.

    Called as `layer(x, like=None)`. `like` is a tensor or a shape whose grid is
    restored before the convolution: what is too much is cut off evenly, at the end
    first, as "same" pooling pads; what is missing repeats the border.

    Args:
        filters: The number of output channels. None keeps those of the input.
        kernel_size: The kernel, in cells of the larger grid; an int, or one for each
            spatial axis.
        size: The factor; an int, or one for each spatial axis.
        interpolation: "nearest" or "linear".
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        use_bias: Whether to add a learned bias to each channel.
        kernel_initializer: A Keras initializer or its name.
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
        >>> UpsamplingConv(8)(np.zeros((1, 4, 4, 16)), like=(7, 7)).shape
        TensorShape([1, 7, 7, 8])

    Reference:
        Odena et al. (2016), [Deconvolution and checkerboard
        artifacts](https://doi.org/10.23915/distill.00003).
    """

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self._add_weights(input_shape, 1, self.kernel_initializer)

    def call(self, x, like=None):
        self.compute_output_shape(x.shape, like)
        x = ops.cast(x, self.compute_dtype)
        if self._swaps():
            return self._swapped(x, like)
        strides = self._strides(x.shape, like)
        folds = max(strides) > 1
        y = self._folded(x, like, strides) if folds else self._plain(x, like)
        return self._biased(y)

    def _plain(self, x, like: Any):
        return self._convolve(super().call(x, like))

    def _swaps(self) -> bool:
        *kernel_size, channels, filters = self.kernel.shape
        return all(taps == 1 for taps in kernel_size) and filters <= channels

    def _swapped(self, x, like: Any):
        """A 1x1 convolution before the up-sampling, on the smaller grid.

        It mixes channels and the up-sampling mixes cells, so their order is free. The
        weights of an interpolation add up to one, so the bias may come before it too.
        """
        return super().call(self._biased(self._convolve(x)), like)

    def _strides(self, shape: Any, like: Any) -> tuple[int, ...]:
        """Along which axes both steps can be one: their factors, elsewhere 1.

        Not where `like` cuts cells off: these were within reach of the kernel. And not
        with one filter and mixed strides, since TensorFlow may leave a part of that
        gradient unset on a CPU.
        """
        *kernel_size, _, filters = self.kernel.shape
        whole = self.compute_output_shape(shape)
        asked = self.compute_output_shape(shape, like)
        strides = tuple(
            factor if like is None or None is not whole[axis] == asked[axis] else 1
            for axis, factor in self._factors(shape).items()
        )
        odd = all(taps % 2 for taps in kernel_size)
        mixed = filters == 1 and 1 in strides
        if self.interpolation == "nearest" and odd and not mixed:
            return strides
        return (1,) * len(strides)

    def _folded(self, x, like: Any, strides: tuple[int, ...]):
        """Up-sampled first where the stride is 1, and both steps as one elsewhere."""
        factors = self._factors(x.shape)
        asked = _windows.asked_grid(like, tuple(factors)) or [None] * len(factors)
        sides = zip(factors.items(), strides, asked, strict=True)
        for (axis, factor), stride, size in sides:
            if stride == 1 and size is not None:
                x = _windows.interleave([x] * factor, axis)
                x = _windows.fit(x, (axis,), (size,))
        return fold(x, self.kernel, strides, self.data_format)


def fold(x, kernel, factors: tuple[int, ...], data_format: str):
    """Nearest up-sampling and a "same" convolution as one transposed convolution.

    With k taps, k odd, and zeros around the larger grid, along one axis
    `y[o] = sum_j kernel[j] * up[o + j - (k - 1) / 2]` and `up[i] = x[i // factor]`.
    The cell `x[m]` stands at every `i = factor * m + r` with `0 <= r < factor`, so it
    adds to `y[o]`, with `t = o - factor * m + (k - 1) / 2`, the sum of the taps
    `kernel[k - 1 - t + r]`. That is a transposed convolution with stride `factor` and
    `k + factor - 1` taps t, of which "same" cuts `(k - 1) / 2` off both ends. It costs
    `(k + factor - 1) / factor` multiply-adds an output and axis instead of k.
    """
    *taps, channels, filters = kernel.shape
    sums = np.ones((1, 1), "float32")
    for count, factor in zip(taps, factors, strict=True):
        sums = np.kron(sums, _sums(count, factor))
    folded = [count + factor - 1 for count, factor in zip(taps, factors, strict=True)]
    kernel = ops.reshape(ops.swapaxes(kernel, -2, -1), (math.prod(taps), -1))
    kernel = ops.reshape(ops.matmul(sums, kernel), (*folded, filters, channels))
    kernel = ops.cast(kernel, x.dtype)
    return ops.conv_transpose(x, kernel, factors, "same", data_format=data_format)


def _sums(kernel_size: int, factor: int) -> np.ndarray:
    """Row t: the taps of the kernel that are added up to tap t of the folded one."""
    taps = np.add.outer(np.arange(kernel_size + factor - 1), np.arange(kernel_size))
    phases = taps - (kernel_size - 1)
    return ((phases >= 0) & (phases < factor)).astype("float32")
