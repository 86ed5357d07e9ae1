"""Pooling by drawing lots."""

from typing import Any

import keras
from keras import ops

from keras_cae import _checks
from keras_cae.layers import _cells, _windows


@keras.saving.register_keras_serializable(package="keras_cae")
class StochasticPooling(_windows.PoolingLayer):
    """Draws one value of each window, with a probability proportional to the value.

    One class for sequences, images and volumes. In training each window of each channel
    draws for itself; the gradient goes to the cell that was drawn. At inference the
    expectation of the draw is taken, `sum x^2 / sum x`, which is not random.

    Values are to be non-negative, as a ReLU leaves them: negative ones count as zero.
    A window without a positive value gives zero, and no gradient. Padding is never
    drawn: with `padding="same"` the windows at the border draw from the cells that they
    do cover; with "valid" cells behind the last whole window are dropped.

    The state of the noise is saved with the weights: a run that goes on from a file
    draws what the uninterrupted run would have drawn.

    Args:
        pool_size: The window, in cells; an int, or one for each spatial axis.
        strides: The step from window to window, in cells. None means `pool_size`.
        padding: "same" (`ceil(size / stride)` windows) or "valid" (whole windows).
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        seed: An int from 0 below 2^31. None draws one.
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
        >>> x = np.reshape([1.0, 3.0, 0.0, 5.0], (1, 4, 1))
        >>> np.squeeze(StochasticPooling(2)(x)).tolist()
        [2.5, 5.0]
        >>> drawn = np.squeeze(StochasticPooling(2, seed=1)(x, training=True)).tolist()
        >>> drawn[0] in (1.0, 3.0), drawn[1]
        (True, 5.0)

    Reference:
        Zeiler and Fergus (2013), [Stochastic pooling for regularization of deep
        convolutional neural networks](https://arxiv.org/abs/1301.3557).
    """

    def __init__(
        self,
        pool_size: _checks.Sizes = 2,
        strides: _checks.Sizes | None = None,
        padding: str = "same",
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        if seed is not None and not (_checks.is_int(seed) and 0 <= seed < 2**31):
            raise ValueError(
                "`seed` must be None or an int from 0 to 2**31 - 1. "
                f"Received: seed={seed!r}"
            )
        self.seed = None if seed is None else int(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def call(self, x, training=False):
        windows = self.windows_for(x.shape)
        x = ops.relu(_cells.precise(x))
        pooled = self._draw(windows, x) if training else self._expect(windows, x)
        return ops.cast(pooled, self.compute_dtype)

    def _draw(self, windows: _windows.Windows, x):
        """One value of each window: the one at which a random part of the sum ends."""
        cells = _cells.of_windows(windows, x)
        total = _cells.total(cells)
        part = total * keras.random.uniform(
            ops.shape(total), dtype=total.dtype, seed=self.seed_generator
        )
        # The first cell is drawn whatever the noise; only the NaN of a total stays.
        drawn, below = total, ops.zeros_like(total)
        for cell in cells:
            drawn = ops.where(below <= part, cell, drawn)
            below = below + cell
        return drawn

    def _expect(self, windows: _windows.Windows, x):
        """The mean of each window, its values weighted by themselves."""
        x = windows.pad(x)
        window = (windows.pool_size, windows.strides, "valid", self.data_format)
        weight = ops.average_pool(x, *window)
        return ops.average_pool(x * x, *window) / ops.where(weight > 0, weight, 1)

    def save_own_variables(self, store: Any) -> None:
        store["seed_generator_state"] = self.seed_generator.state

    def load_own_variables(self, store: Any) -> None:
        # Files of a model that had another pooling here hold no state of the noise.
        if "seed_generator_state" in store:
            self.seed_generator.state.assign(store["seed_generator_state"])

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"seed": self.seed}
