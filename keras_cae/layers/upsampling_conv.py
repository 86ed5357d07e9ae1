"""Up-sampling, then a convolution, for less than the two cost one after the other."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cae import _checks
from keras_cae.layers import _windows
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

    def _build_kernel(self, input_shape: Any, phases: int, initializer: Any) -> None:
        """The weights of a convolution that gives `phases` values for each filter."""
        channels = _checks.channels(self.name, input_shape, self.data_format)
        self.input_spec = keras.layers.InputSpec(
            ndim=len(input_shape), axes={self._channel_axis(len(input_shape)): channels}
        )
        filters = phases * (channels if self.filters is None else self.filters)
        kernel_size = _checks.per_axis(
            "kernel_size", self.kernel_size, len(input_shape) - 2
        )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*kernel_size, channels, filters),
            initializer=initializer,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias", shape=(filters,), initializer="zeros"
            )

    def _channel_axis(self, ndim: int) -> int:
        return 1 if self.data_format == "channels_first" else ndim - 1

    def _convolve(self, x):
        """A convolution that keeps the grid, with zeros around it."""
        return ops.conv(x, self.kernel, 1, "same", self.data_format)

    def _biased(self, x):
        if self.bias is None:
            return x
        if self.data_format == "channels_last":
            return ops.add(x, self.bias)
        return x + ops.reshape(self.bias, (-1, *(1 for _ in x.shape[2:])))

    def compute_output_shape(
        self, input_shape: Any, like: Any = None
    ) -> tuple[Any, ...]:
        shape = super().compute_output_shape(input_shape, like)
        if self.filters is None:
            return shape
        return _windows.with_grid(
            shape, (self._channel_axis(len(shape)),), (self.filters,)
        )

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable(package="keras_cae")
class UpsamplingConv(KernelUpsampling):
    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self._build_kernel(input_shape, 1, self.kernel_initializer)

    def call(self, x, like=None):
        if self._folds(x.shape, like):
            factors = tuple(self._factors(x.shape).values())
            x = ops.cast(x, self.compute_dtype)
            return self._biased(folded(x, self.kernel, factors, self.data_format))
        return self._biased(self._convolve(super().call(x, like)))

    def _folds(self, shape: Any, like: Any) -> bool:
        """Whether the grid is made of whole cells, and the kernel has a centre."""
        whole = self.compute_output_shape(shape)
        odd = all(size % 2 for size in self.kernel.shape[:-2])
        asked = self.compute_output_shape(shape, like)
        return (self.interpolation == "nearest") and odd and (like is None or (whole == asked and all(
            v is not None for v in whole[1:])))


def folded(x, kernel, factors: tuple[int, ...], data_format: str):
    """Nearest up-sampling and a convolution as one transposed convolution."""
    for factor in factors:
        sums = _sums(kernel.shape[0], factor)
        kernel = ops.tensordot(kernel, sums, ((0,), (1,)))
    rank = len(factors)
    kernel = ops.cast(ops.transpose(kernel, (*range(2, 2 + rank), 1, 0)), x.dtype)
    return ops.conv_transpose(x, kernel, factors, "same", data_format=data_format)


def _sums(kernel_size: int, factor: int) -> np.ndarray:
    """Which taps of the kernel meet one cell: a row for each output it reaches."""
    taps = np.arange(kernel_size) - (kernel_size - 1)
    phases = np.arange(kernel_size + factor - 1)[:, None] + taps
    return ((phases >= 0) & (phases < factor)).astype("float32")
