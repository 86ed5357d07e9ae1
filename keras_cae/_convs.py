"""Convolution -> norm -> activation, as often as asked: what both blocks share."""

import math
import types
from typing import Any

import keras
from keras import ops

from keras_cae import _checks
from keras_cae.layers import _channels, _windows
from keras_cae.layers._conv import conv

_NORMS = ("batch", "group", "instance", "layer")


class ConvBlock(keras.layers.Layer):
    """Convolution -> norm -> activation -> dropout, as often as asked, with a residual.

    What both blocks share. Everything is a Keras layer, made and built in `build`.
    """

    def __init__(
        self,
        filters: int,
        *,
        convs: int,
        kernel_size: _checks.Sizes,
        norm: Any,
        activation: Any,
        dropout: float,
        residual: bool,
        data_format: str | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = _checks.positive_int("filters", filters)
        self.convs = _checks.positive_int("convs", convs)
        self.kernel_size = _checks.sizes("kernel_size", kernel_size)
        if not (norm is None or isinstance(norm, keras.layers.Layer)):
            norm = _checks.choice("norm", norm, _NORMS)
        activation = activation_of("activation", activation)
        # Layers among them are patterns, copied for each convolution: no parts.
        self._patterns = types.SimpleNamespace(norm=norm, activation=activation)
        if not _checks.is_real(dropout) or not 0 <= dropout < 1:
            raise ValueError(
                f"`dropout` must be a number in [0, 1). Received: dropout={dropout!r}"
            )
        self.dropout = dropout
        self.residual = _checks.flag("residual", residual)
        self.data_format = _checks.data_format(data_format)
        # Of each convolution the parts before and behind where a residual is added.
        self._stages: list[tuple[list[keras.layers.Layer], ...]] = []
        self._shortcut: keras.layers.Layer | None = None

    @property
    def norm(self) -> Any:
        """The norm, as it was given."""
        return self._patterns.norm

    @property
    def activation(self) -> Any:
        """The activation: a function, or a layer as it was given."""
        return self._patterns.activation

    def _with_filters(self, shape: Any) -> tuple[Any, ...]:
        axis = _channels.axis_in(len(shape), self.data_format)
        return _windows.with_grid(shape, (axis,), (self.filters,))

    def _build_convs(self, shape: Any) -> None:
        """Makes and builds the parts for a map of this shape."""
        rank = _checks.spatial_rank(self.name, shape)
        _checks.per_axis("kernel_size", self.kernel_size, rank)
        channels = _checks.channels(self.name, shape, self.data_format)
        maps = self._with_filters(shape)
        if self.residual and channels != self.filters:
            self._shortcut = self._conv("shortcut", rank, kernel_size=1)
            self._shortcut.build(shape)
        for number in range(1, self.convs + 1):
            linear = [self._conv(f"conv_{number}", rank, self.kernel_size)]
            if self.norm is not None:
                linear.append(self._norm(number, rank))
            nonlinear = [self._activate(number)]
            if self.dropout:
                nonlinear.append(self._drop(f"dropout_{number}", rank))
            for part in (*linear, *nonlinear):
                if not part.weights:  # a reloaded one comes back with its own
                    part.build(shape)
                shape = maps
            self._stages.append((linear, nonlinear))

    def _freeze(self, parts: list[keras.layers.Layer]) -> None:
        """Keeps parts that were made later as the block is: frozen or not."""
        for part in parts if not self.trainable else ():
            part.trainable = False

    def _conv(self, name: str, rank: int, kernel_size: Any) -> keras.layers.Layer:
        return conv(
            rank,
            self.filters,
            kernel_size,
            data_format=self.data_format,
            use_bias=self.norm is None or isinstance(self.norm, keras.layers.Layer),
            name=name,
            dtype=self.dtype_policy,
        )

    def _norm(self, number: int, rank: int) -> keras.layers.Layer:
        if isinstance(self.norm, keras.layers.Layer):
            return copy_of(self.norm, f"norm_{number}")
        settings = {
            "axis": _channels.axis_in(rank + 2, self.data_format),
            "name": f"norm_{number}",
            "dtype": self.dtype_policy,
        }
        if self.norm == "batch":
            return keras.layers.BatchNormalization(**settings)
        if self.norm == "layer":
            return keras.layers.LayerNormalization(**settings)
        groups = -1 if self.norm == "instance" else math.gcd(self.filters, 32)
        return keras.layers.GroupNormalization(groups, **settings)

    def _activate(self, number: int) -> keras.layers.Layer:
        if isinstance(self.activation, keras.layers.Layer):
            return copy_of(self.activation, f"activation_{number}")
        name = f"activation_{number}"
        return keras.layers.Activation(
            self.activation, name=name, dtype=self.dtype_policy
        )

    def _drop(self, name: str, rank: int) -> keras.layers.Layer:
        """Drops whole channels, since neighbours in a map tell the same."""
        shape: list[int | None] = [None] + [1] * (rank + 1)
        shape[_channels.axis_in(rank + 2, self.data_format)] = None
        return keras.layers.Dropout(
            self.dropout, noise_shape=shape, name=name, dtype=self.dtype_policy
        )

    def _resized(
        self, name: str, value: Any, named: Any, size: _checks.Sizes
    ) -> keras.layers.Layer | None:
        """The layer that changes the grid: given, by name, or none."""
        if isinstance(value, keras.layers.Layer):
            other = getattr(value, "data_format", self.data_format)
            if other != self.data_format:
                raise ValueError(
                    f"`{name}` must have the data_format of its block, "
                    f"{self.data_format!r}. Received: {value!r} with {other!r}"
                )
        if value is None or isinstance(value, keras.layers.Layer):
            return value
        return named(
            value,
            size,
            data_format=self.data_format,
            name=name,
            dtype=self.dtype_policy,
        )

    def _convolve(self, x, begun: bool = False):
        """All convolutions; the first one is done already if `begun`."""
        return self._activated(self._convolve_linear(x, begun))

    def _convolve_linear(self, x, begun: bool = False, biased: bool = True):
        """The same without what is behind the last convolution, norm and residual.

        Without the last convolution's bias too, if `biased` is False.
        """
        shortcut = x if self._shortcut is None else self._shortcut(x)
        for number, ((first, *norms), nonlinear) in enumerate(self._stages, 1):
            last = number == self.convs
            if not (begun and number == 1):
                x = first(x) if biased or not last else first(x, biased=False)
            for part in norms if last else (*norms, *nonlinear):
                x = part(x)
        return ops.add(x, shortcut) if self.residual else x

    def _last_bias(self) -> Any:
        """The bias that is added last in front of the activation; None if it is not.

        Nor where someone looks at what the convolution gives.
        """
        last, *norms = self._stages[-1][0]
        watched = "call" in vars(last) or last.activity_regularizer is not None
        linear = last.activation is keras.activations.linear
        follows = bool(norms) or self.residual or watched or not linear
        return None if follows else last.bias

    def _activated(self, x):
        for part in self._stages[-1][1]:
            x = part(x)
        return ops.cast(x, self.compute_dtype)  # parts may have dtypes of their own

    def _conv_parts(self) -> list[keras.layers.Layer]:
        parts = [part for stage in self._stages for group in stage for part in group]
        return parts if self._shortcut is None else [self._shortcut, *parts]

    def get_config(self) -> dict[str, Any]:
        activation = self.activation
        if not isinstance(activation, keras.layers.Layer):
            activation = keras.activations.serialize(activation)
        return super().get_config() | {
            "filters": self.filters,
            "convs": self.convs,
            "kernel_size": self.kernel_size,
            "norm": serialized(self.norm),
            "activation": serialized(activation),
            "dropout": self.dropout,
            "residual": self.residual,
            "data_format": self.data_format,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ConvBlock":
        return super().from_config(
            {
                key: keras.saving.deserialize_keras_object(value)
                if isinstance(value, dict) and "class_name" in value and key != "dtype"
                else value
                for key, value in config.items()
            }
        )


def copy_of(layer: keras.layers.Layer, name: str) -> keras.layers.Layer:
    """A new layer with the same settings."""
    return type(layer).from_config(layer.get_config() | {"name": name})


def fresh(value: Any) -> Any:
    """A copy of a layer, so that no two blocks share it; other values as they are."""
    if isinstance(value, keras.layers.Layer):
        return copy_of(value, value.name)
    return value


def serialized(value: Any) -> Any:
    """An argument as a config keeps it: layers as their configs."""
    if isinstance(value, keras.layers.Layer):
        return keras.saving.serialize_keras_object(value)
    return value


def activation_of(name: str, value: Any) -> Any:
    """`value` as a Keras activation; a layer as it is."""
    if isinstance(value, keras.layers.Layer):
        return value
    try:
        if isinstance(value, type):
            raise TypeError
        return keras.activations.get(value)
    except (ValueError, TypeError):
        raise ValueError(
            f"`{name}` must be a Keras activation, its name, or a layer. "
            f"Received: {name}={value!r}"
        ) from None
