"""One level of the Haar wavelet: pooling that loses nothing and keeps the energy."""

from typing import Any

import keras
from keras import ops

from keras_cae import _checks
from keras_cae.layers import _channels
from keras_cae.layers.rearrange import DepthToSpace, SpaceToDepth


@keras.saving.register_keras_serializable(package="keras_cae")
class HaarPooling(SpaceToDepth):
    """Splits the grid into bands of sums and differences, which become channels.

    One class for sequences, images and volumes; each channel has `2 ** rank` bands. An
    orthonormal map: the sum of squares stays, and its adjoint, `HaarUnpooling`, is its
    inverse.

    Bands come one after the other, each with all channels; `x[..., :channels]` is the
    low-pass band, the mean of each window times `2 ** (rank / 2)`. The number of a
    band, written in binary, has a digit for each spatial axis: 0 where the two cells
    are added, 1 where the second is taken from the first. Sequences: L, H. Images: LL,
    LH (differences along the width), HL (along the height), HH. Volumes: LLL, LLH,
    LHL, LHH, HLL, HLH, HHL, HHH, for depth, height and width.

    On a grid of odd size `padding="same"` adds a zero behind, which adds no energy and
    which `HaarUnpooling` cuts off again; "valid" drops the last cell: it is lost.

    Args:
        pool_size: 2, or one 2 for each spatial axis; the wavelet has no other.
        strides: None or `pool_size`.
        padding: "same" (`ceil(size / 2)` windows) or "valid" (whole windows).
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        **kwargs: As of `keras.layers.Layer`.

    Input shape:
        `(batch, *grid, channels)`, or `(batch, channels, *grid)`, with 1 to 3 spatial
        axes of any size, known or not.

    Output shape:
        The same with the pooled grid and `2 ** rank` times the channels.

    Raises:
        ValueError: An argument or the rank of the input breaks its rule, or a window
            with "valid" padding does not fit into the grid.

    Example:
        >>> import numpy as np
        >>> x = np.reshape([[5.0, 3.0], [1.0, 1.0]], (1, 2, 2, 1))
        >>> np.squeeze(HaarPooling(2)(x)).tolist()
        [5.0, 1.0, 3.0, 1.0]

    Reference:
        Mallat (1989), [A theory for multiresolution signal
        decomposition](https://doi.org/10.1109/34.192463).
    """

    def __init__(
        self,
        pool_size: _checks.Sizes = 2,
        strides: _checks.Sizes | None = None,
        padding: str = "same",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        _check_window(self.pool_size)

    def call(self, x):
        return _transformed(super().call(x), self.data_format)


@keras.saving.register_keras_serializable(package="keras_cae")
class HaarUnpooling(DepthToSpace):
    """Puts the bands of `HaarPooling` together again: its inverse and its adjoint.

    With the same arguments and `like=x`, `unpool(pool(x)) == x` up to rounding, for
    grids of odd size too. With "valid" padding a last cell without a window is zero.

    Called as `layer(x, like=None)`. `like` is a tensor or a shape whose grid is
    restored; without it the grid is twice that of the input.

    Args:
        pool_size: 2, or one 2 for each spatial axis; the wavelet has no other.
        strides: None or `pool_size`.
        padding: The padding of the pooling, "same" or "valid".
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        **kwargs: As of `keras.layers.Layer`.

    Input shape:
        `(batch, *pooled grid, channels)`, or channels first; a known number of
        channels, a multiple of `2 ** rank`, ordered as `HaarPooling` orders its bands.

    Output shape:
        The same with the grid of `like`, or the one above, and the channels divided by
        `2 ** rank`.

    Raises:
        ValueError: An argument, the rank or the channels of the input break their
            rule, or `like` does not pool to the grid of the input.

    Example:
        >>> import numpy as np
        >>> x = np.reshape([5.0, 1.0, 3.0, 1.0], (1, 1, 1, 4))
        >>> np.squeeze(HaarUnpooling(2)(x)).tolist()
        [[5.0, 3.0], [1.0, 1.0]]

    Reference:
        Mallat (1989), [A theory for multiresolution signal
        decomposition](https://doi.org/10.1109/34.192463).
    """

    def __init__(
        self,
        pool_size: _checks.Sizes = 2,
        strides: _checks.Sizes | None = None,
        padding: str = "same",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        _check_window(self.pool_size)

    def call(self, x, like=None):
        x = ops.cast(x, self.compute_dtype)
        return super().call(_transformed(x, self.data_format), like)


def _check_window(pool_size: _checks.Sizes) -> None:
    entries = pool_size if isinstance(pool_size, tuple) else (pool_size,)
    if set(entries) != {2}:
        raise ValueError(
            "`pool_size` must be 2, the window of the Haar wavelet. "
            f"Received: pool_size={pool_size!r}"
        )


def _transformed(x, data_format: str):
    """Cells to bands, or bands to cells: the transform is its own inverse.

    Scaled first, so that float16 sums overflow only where the band itself would.
    """
    rank = len(x.shape) - 2
    axis = _channels.axis_in(rank + 2, data_format)
    blocks = ops.split(x * 2 ** (-rank / 2), 2**rank, axis=axis)
    for bit in (1 << digit for digit in range(rank)):
        blocks = [
            blocks[i ^ bit] - block if i & bit else block + blocks[i ^ bit]
            for i, block in enumerate(blocks)
        ]
    return ops.concatenate(blocks, axis=axis)
