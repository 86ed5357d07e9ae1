"""Resizing by interpolation."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cae import _checks
from keras_cae.layers import _windows

_SHORT = 128  # cells; up to here a matrix product is the faster interpolation


@keras.saving.register_keras_serializable(package="keras_cae")
class Upsampling(keras.layers.Layer):
    """Makes the grid larger by an int factor, by nearest or linear interpolation.

    One class for sequences, images and volumes. "linear" takes pixel centres for
    points and repeats the border, as image libraries do (half-pixel centres).

    Called as `layer(x, like=None)`. `like` is a tensor or a shape whose grid is
    restored: what is too much is cut off evenly, at the end first, as "same" pooling
    pads; what is missing, since "valid" pooling drops the end, repeats the last cell.

    Args:
        size: The factor; an int, or one for each spatial axis.
        interpolation: "nearest" or "linear".
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        **kwargs: As of `keras.layers.Layer`.

    Input shape:
        `(batch, *grid, channels)`, or `(batch, channels, *grid)`, with 1 to 3 spatial
        axes of any size, known or not.

    Output shape:
        The same with `size` times the grid, or the grid of `like`.

    Raises:
        ValueError: An argument or the rank of the input breaks its rule, or the grid
            of `like` is so small that whole cells of the input would be cut off.

    Example:
        >>> import numpy as np
        >>> x = np.reshape([0.0, 4.0], (1, 2, 1))
        >>> np.squeeze(Upsampling(2)(x, like=(3,))).tolist()
        [0.0, 0.0, 4.0]
        >>> np.squeeze(Upsampling(2, interpolation="linear")(x)).tolist()
        [0.0, 1.0, 3.0, 4.0]

    Reference:
        Odena et al. (2016), [Deconvolution and checkerboard
        artifacts](https://doi.org/10.23915/distill.00003), who resize and convolve.
    """

    def __init__(
        self,
        size: _checks.Sizes = 2,
        interpolation: str = "nearest",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.size = _checks.sizes("size", size)
        self.interpolation = _checks.choice(
            "interpolation", interpolation, ("nearest", "linear")
        )
        self.data_format = _checks.data_format(data_format)

    def build(self, input_shape: Any) -> None:
        self._factors(input_shape)
        self.input_spec = keras.layers.InputSpec(ndim=len(input_shape))

    def _factors(self, shape: Any) -> dict[int, int]:
        """The factor of each spatial axis."""
        rank = _checks.spatial_rank(self.name, shape)
        axes = _windows.spatial_axes(rank, self.data_format)
        factors = _checks.per_axis("size", self.size, rank)
        return dict(zip(axes, factors, strict=True))

    def call(self, x, like=None):
        factors = self._factors(x.shape)
        self.compute_output_shape(x.shape, like)
        asked = _windows.asked_grid(like, tuple(factors))
        x = ops.cast(x, self.compute_dtype)
        enlarge = _nearest if self.interpolation == "nearest" else _linear
        for axis, factor in factors.items():
            x = enlarge(x, axis, factor)
        return x if asked is None else _windows.fit(x, tuple(factors), asked)

    def compute_output_shape(
        self, input_shape: Any, like: Any = None
    ) -> tuple[Any, ...]:
        factors = self._factors(input_shape)
        asked = _windows.grid_like(like, tuple(factors)) or tuple(
            None if input_shape[axis] is None else input_shape[axis] * factor
            for axis, factor in factors.items()
        )
        for (axis, factor), size in zip(factors.items(), asked, strict=True):
            cells = input_shape[axis]
            if None not in (cells, size) and size <= (cells - 1) * factor:
                raise ValueError(
                    "`like` must not cut off whole cells of the input: each spatial "
                    f"axis needs more than (size - 1) * {factor} cells. Received: like "
                    f"with grid {asked}, an input of shape {tuple(input_shape)}"
                )
        return _windows.with_grid(input_shape, tuple(factors), asked)

    def compute_output_spec(self, x, like: Any = None):
        shape = self.compute_output_shape(x.shape, like)
        return keras.KerasTensor(shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "size": self.size,
            "interpolation": self.interpolation,
            "data_format": self.data_format,
        }


def _nearest(x, axis: int, factor: int):
    """Every cell `factor` times."""
    return _windows.interleave([x] * factor, axis)


def _linear(x, axis: int, factor: int):
    """Between the centres of the cells; each phase has two weights of its own."""
    if factor == 1:
        return x
    if (x.shape[axis] or math.inf) <= _SHORT:
        return _linear_by_matrix(x, axis, factor)
    size = ops.shape(x)[axis]
    first, last = (_windows.crop(x, (axis,), (at,), (1,)) for at in (0, size - 1))
    bordered = ops.concatenate([first, x, last], axis=axis)
    cells = [_windows.crop(bordered, (axis,), (at,), (size,)) for at in range(3)]
    phases = []
    for phase in range(factor):
        offset = (phase + 0.5) / factor - 0.5
        neighbour = cells[0] if offset < 0 else cells[2]
        phases.append((1 - abs(offset)) * cells[1] + abs(offset) * neighbour)
    return _windows.interleave(phases, axis)


def _linear_by_matrix(x, axis: int, factor: int):
    """The same for a short axis: most products are with 0, but there is one pass."""
    shape = ops.shape(x)
    centres = (np.arange(shape[axis] * factor) + 0.5) / factor - 0.5
    distances = np.clip(centres, 0, shape[axis] - 1)[:, None] - np.arange(shape[axis])
    weights = ops.cast(np.maximum(1 - abs(distances), 0), x.dtype)
    # One matrix for each item: TensorFlow 2.18 crashes where it repeats a single one.
    rows = ops.reshape(x, (-1, shape[axis], math.prod(shape[axis + 1 :])))
    count = ops.shape(rows)[0]
    weights = ops.broadcast_to(weights, (count, *weights.shape))
    grown = _windows.with_grid(shape, (axis,), (shape[axis] * factor,))
    return ops.reshape(ops.matmul(weights, rows), grown)
