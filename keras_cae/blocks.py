"""The two blocks of a convolutional autoencoder."""

import inspect
from typing import Any

import keras
from keras import ops

from keras_cae import _checks
from keras_cae._convs import ConvBlock, serialized
from keras_cae._early import pools_early
from keras_cae.layers import Upsampling, _channels, _windows, pairs
from keras_cae.layers.upsampling_conv import fold


@keras.saving.register_keras_serializable(package="keras_cae")
class EncoderBlock(ConvBlock):
    """Convolution -> norm -> activation, as often as asked, then a pooling.

    One class for sequences, images and volumes. Convolutions keep the grid (zeros
    around the border) and only the pooling makes it smaller.

    Args:
        filters: The number of channels of every convolution.
        convs: How many convolutions, each with its norm, activation and dropout.
        kernel_size: Their kernel, in cells; an int, or one for each spatial axis.
        norm: "batch", "group" (up to 32 groups), "instance", "layer" (over channels),
            a Keras layer (copied for each further convolution), or None.
        activation: A Keras activation, or a layer (copied for each further
            convolution). None means linear.
        dropout: The share of channels dropped behind each activation, in [0, 1).
        residual: Whether the input is added before the last activation, through a
            1x1 convolution where the number of channels changes.
        pooling: A name ("average", "blur", "gated", "haar", "lp", "max", "max_blur",
            "mixed", "soft", "space_to_depth", "stochastic", "strided"), a layer of
            this package, of Keras or your own, or None.
        pool_size: The window of a pooling given by name, in cells.
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        **kwargs: As of `keras.layers.Layer`.

    Input shape:
        `(batch, *grid, channels)`, or `(batch, channels, *grid)`, with 1 to 3 spatial
        axes of any size, known or not. The channels must be known.

    Output shape:
        The pooled map, `(batch, *pooled grid, filters)` in the same format (space-to-
        depth and Haar multiply the channels); or `(pooled, switches)` when the pooling
        returns switches.

    Raises:
        ValueError: An argument or the rank of the input breaks its rule.

    Example:
        >>> import keras
        >>> EncoderBlock(64, convs=2, norm="batch")(keras.Input((28, 28, 1))).shape
        (None, 14, 14, 64)

    Reference:
        Masci et al. (2011), [Stacked convolutional auto-encoders for hierarchical
        feature extraction](https://doi.org/10.1007/978-3-642-21735-7_7); He et al.
        (2016), [Deep residual learning](https://arxiv.org/abs/1512.03385).
    """

    def __init__(
        self,
        filters: int,
        *,
        convs: int = 1,
        kernel_size: _checks.Sizes = 3,
        norm: Any = None,
        activation: Any = "relu",
        dropout: float = 0.0,
        residual: bool = False,
        pooling: Any = "max",
        pool_size: _checks.Sizes = 2,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            filters,
            convs=convs,
            kernel_size=kernel_size,
            norm=norm,
            activation=activation,
            dropout=dropout,
            residual=residual,
            data_format=data_format,
            **kwargs,
        )
        self.pooling = pooling
        self.pool_size = _checks.sizes("pool_size", pool_size)
        self.pooling_layer = self._resized(
            "pooling", pooling, pairs.pooling_named, self.pool_size
        )

    def build(self, input_shape: Any) -> None:
        self._build_convs(input_shape)
        if self.pooling_layer is not None and not self.pooling_layer.built:
            self.pooling_layer.build(self._with_filters(input_shape))
        self._freeze(self.layers)

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The parts in the order in which they run; the convolutions once built."""
        last = [] if self.pooling_layer is None else [self.pooling_layer]
        return [*self._conv_parts(), *last]

    def call(self, x, training=None):
        if self.pooling_layer is None:
            return self._convolve(x)
        if self._pools_early():
            return self._activated(self._pooled_early(x))
        return self.pooling_layer(self._convolve(x))

    def _pooled_early(self, x):
        """The pooled map in front of the activation, the bias behind the pooling.

        A bias b moves all cells of a channel by as much: `max(x + b)` is `max(x) + b`.
        """
        pooling: Any = self.pooling_layer
        bias = self._last_bias()
        pooled = pooling(self._convolve_linear(x, biased=bias is None))
        return _channels.add_bias(pooled, bias, self.data_format)

    def _pools_early(self) -> bool:
        return pools_early(self.pooling_layer, self.activation, self.compute_dtype)

    def compute_output_spec(self, x, training=None):
        maps = keras.KerasTensor(self._with_filters(x.shape), self.compute_dtype)
        if self.pooling_layer is None:
            return maps
        return self.pooling_layer.compute_output_spec(maps)

    def compute_output_shape(self, input_shape: Any) -> Any:
        spec = self.compute_output_spec(keras.KerasTensor(input_shape))
        return keras.tree.map_structure(_shape, spec)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "pooling": serialized(self.pooling),
            "pool_size": self.pool_size,
        }


@keras.saving.register_keras_serializable(package="keras_cae")
class DecoderBlock(ConvBlock):
    """An unpooling, then convolution -> norm -> activation, as often as asked.

    One class for sequences, images and volumes. Called as
    `block(x, switches=None, like=None)`: `switches` go to an unpooling that takes
    them; with `like`, a tensor or a shape, or with `output_size` the output has
    exactly that grid, even or odd. The convolutions keep the grid.

    Args:
        filters: The number of channels of every convolution.
        convs: How many convolutions, each with its norm, activation and dropout.
        kernel_size: Their kernel, in cells; an int, or one for each spatial axis.
        norm: "batch", "group" (up to 32 groups), "instance", "layer" (over channels),
            a Keras layer (copied for each further convolution), or None.
        activation: A Keras activation, or a layer (copied for each further
            convolution). None means linear.
        dropout: The share of channels dropped behind each activation, in [0, 1).
        residual: Whether the unpooled map is added before the last activation,
            through a 1x1 convolution where the number of channels changes.
        unpooling: A name ("linear", "nearest", "subpixel", "transposed"), a layer of
            this package, of Keras or your own, or None. For the inverse of a pooling
            pass `keras_cae.layers.partner_of(pooling)`.
        size: The factor of an unpooling given by name.
        output_size: The grid of the output, in cells; an int, or one for each spatial
            axis. None means what the unpooling gives, or `like`.
        data_format: "channels_last" or "channels_first". None means Keras' setting.
        **kwargs: As of `keras.layers.Layer`.

    Input shape:
        `(batch, *grid, channels)`, or `(batch, channels, *grid)`, with 1 to 3 spatial
        axes of any size, known or not. The channels must be known.

    Output shape:
        `(batch, *larger grid, filters)` in the same format.

    Raises:
        ValueError: An argument or the rank of the input breaks its rule; `like` is
            given beside `output_size`; switches are missing, or not wanted.

    Example:
        >>> import keras
        >>> x = keras.Input((4, 4, 64))
        >>> DecoderBlock(32)(x, like=(7, 7)).shape
        (None, 7, 7, 32)

    Reference:
        Zeiler et al. (2010), [Deconvolutional
        networks](https://doi.org/10.1109/CVPR.2010.5539957); Badrinarayanan et al.
        (2017), [SegNet](https://arxiv.org/abs/1511.00561), for the switches.
    """

    def __init__(
        self,
        filters: int,
        *,
        convs: int = 1,
        kernel_size: _checks.Sizes = 3,
        norm: Any = None,
        activation: Any = "relu",
        dropout: float = 0.0,
        residual: bool = False,
        unpooling: Any = "nearest",
        size: _checks.Sizes = 2,
        output_size: _checks.Sizes | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            filters,
            convs=convs,
            kernel_size=kernel_size,
            norm=norm,
            activation=activation,
            dropout=dropout,
            residual=residual,
            data_format=data_format,
            **kwargs,
        )
        self.unpooling = unpooling
        self.size = _checks.sizes("size", size)
        self.output_size = None
        if output_size is not None:
            self.output_size = _checks.sizes("output_size", output_size)
        self.unpooling_layer = self._resized(
            "unpooling", unpooling, pairs.unpooling_named, self.size
        )

    def build(self, input_shape: Any) -> None:
        layer = self.unpooling_layer
        if layer is not None:
            if not layer.built:
                layer.build(input_shape)
            input_shape = _shape_behind(layer, input_shape)
        if self.output_size is not None:
            rank = _checks.spatial_rank(self.name, input_shape)
            size = _checks.per_axis("output_size", self.output_size, rank)
            axes = _windows.spatial_axes(rank, self.data_format)
            input_shape = _windows.with_grid(input_shape, axes, size)
        self._build_convs(input_shape)
        self._freeze(self.layers)

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The parts in the order in which they run; the convolutions once built."""
        first = [] if self.unpooling_layer is None else [self.unpooling_layer]
        return [*first, *self._conv_parts()]

    def call(self, x, switches=None, like=None, training=None):
        given, left = self._ask(x, switches, like)
        if self._folds(x, given.get("like")):
            return self._convolve(self._folded(x), begun=True)
        if self.unpooling_layer is not None:
            x = self.unpooling_layer(x, **given)
        if left is not None:
            axes = self._axes(x)
            x = _windows.fit(x, axes, _windows.asked_grid(left, axes))
        return self._convolve(x)

    def compute_output_spec(self, x, switches=None, like: Any = None, training=None):
        given, left = self._ask(x, switches, like)
        if self.unpooling_layer is not None:
            x = self.unpooling_layer.compute_output_spec(x, **given)
        shape = x.shape
        if left is not None:
            axes = self._axes(x)
            shape = _windows.with_grid(shape, axes, _windows.grid_like(left, axes))
        return keras.KerasTensor(self._with_filters(shape), self.compute_dtype)

    def _folds(self, x, like: Any) -> bool:
        """Whether unpooling and first convolution can be one, for half the work.

        That is so for nearest up-sampling by whole cells and an odd kernel, if nobody
        else needs the map between them. Volumes with channels first stay apart: on a
        CPU TensorFlow computes them only through what Keras does for convolutions.
        """
        layer: Any = self.unpooling_layer
        nearest = type(layer) is Upsampling and layer.interpolation == "nearest"
        volume = len(x.shape) == 5 and self.data_format == "channels_first"
        if not nearest or self.residual or volume:
            return False
        whole = layer.compute_output_shape(x.shape)
        asked = layer.compute_output_shape(x.shape, like)
        fits = like is None or all(
            whole[axis] is not None and whole[axis] == asked[axis]
            for axis in self._axes(x)
        )
        return fits and all(taps % 2 for taps in self._first_conv.kernel.shape[:-2])

    def _folded(self, x):
        """Unpooling and first convolution in one, with the weights of the latter."""
        conv, rank = self._first_conv, len(x.shape) - 2
        upsampling: Any = self.unpooling_layer
        factors = _checks.per_axis("size", upsampling.size, rank)
        x = ops.cast(x, self.compute_dtype)
        x = fold(x, conv.kernel, factors, self.data_format)
        return _channels.add_bias(x, conv.bias, self.data_format)

    @property
    def _first_conv(self) -> keras.layers.Layer:
        return self._stages[0][0][0]

    def _axes(self, x) -> tuple[int, ...]:
        return _windows.spatial_axes(len(x.shape) - 2, self.data_format)

    def _ask(self, x, switches: Any, like: Any) -> tuple[dict[str, Any], Any]:
        """What the unpooling is given, and the `like` left to fit to behind it."""
        if self.output_size is not None:
            if like is not None:
                raise ValueError(
                    "`like` must not be given to a block with a fixed `output_size`. "
                    f"Received: like={like!r}, output_size={self.output_size}"
                )
            rank = _checks.spatial_rank(self.name, x.shape)
            like = _checks.per_axis("output_size", self.output_size, rank)
        given = {}
        if switches is not None:
            if not _takes(self.unpooling_layer, "switches"):
                raise ValueError(
                    "`switches` must only be given to an unpooling that takes them, "
                    f"as MaxUnpooling does. Received: unpooling={self.unpooling!r}"
                )
            given["switches"] = switches
        if like is not None and _takes(self.unpooling_layer, "like"):
            self._check_output_size(x, like)
            given["like"], like = like, None
        return given, like

    def _check_output_size(self, x, like: Any) -> None:
        """Whether a fixed grid can be restored; `like` its layer checks by itself."""
        layer = self.unpooling_layer
        if self.output_size is None or layer is None:
            return
        try:
            layer.compute_output_shape(x.shape, like)
        except ValueError as error:
            raise ValueError(
                "`output_size` must be a grid that the unpooling can restore. "
                f"Received: output_size={self.output_size}. {error}"
            ) from None

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        return self.compute_output_spec(keras.KerasTensor(input_shape)).shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "unpooling": serialized(self.unpooling),
            "size": self.size,
            "output_size": self.output_size,
        }


def _shape_behind(layer: keras.layers.Layer, shape: Any) -> tuple[Any, ...]:
    """The output shape of a layer, which need not tell it without being traced."""
    try:
        return layer.compute_output_shape(shape)
    except NotImplementedError:
        return layer.compute_output_spec(keras.KerasTensor(shape)).shape


def _takes(layer: Any, argument: str) -> bool:
    """Whether a layer can be called with this argument."""
    return layer is not None and argument in inspect.signature(layer.call).parameters


def _shape(tensor) -> tuple[int | None, ...]:
    return tensor.shape
