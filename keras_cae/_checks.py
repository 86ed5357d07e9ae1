"""Argument checks that several rooms share: the rule, then what came, by name."""

import difflib
import numbers
from collections.abc import Collection
from typing import Any

import keras

Sizes = int | tuple[int, ...]


def is_int(value: Any) -> bool:
    """Whether `value` is a whole number; True and False are not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """Whether `value` is a real number; True and False are not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def positive_int(name: str, value: Any) -> int:
    """`value` as an int of 1 or more."""
    if not is_int(value) or value < 1:
        raise ValueError(f"`{name}` must be a positive int. Received: {name}={value!r}")
    return int(value)


def sizes(name: str, value: Any) -> Sizes:
    """`value` as a positive int or a tuple of one to three of them."""
    entries = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if not 1 <= len(entries) <= 3 or not all(is_int(v) and v > 0 for v in entries):
        raise ValueError(
            f"`{name}` must be a positive int, or one for each spatial axis. "
            f"Received: {name}={value!r}"
        )
    if not isinstance(value, (tuple, list)):
        return int(value)
    return tuple(int(v) for v in entries)


def per_axis(name: str, value: Sizes, rank: int) -> tuple[int, ...]:
    """One entry a spatial axis, for an input with `rank` of them."""
    if isinstance(value, int):
        return (value,) * rank
    if len(value) != rank:
        raise ValueError(
            f"`{name}` must have one entry for each of the {rank} spatial axes of "
            f"the input. Received: {name}={value!r}"
        )
    return tuple(value)


def choice(name: str, value: Any, options: Collection[str]) -> str:
    """`value` as one of `options`, with near matches where it is none."""
    if isinstance(value, str) and value in options:
        return value
    near = difflib.get_close_matches(str(value), list(options), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"`{name}` must be one of {sorted(options)}. Received: {name}={value!r}.{hint}"
    )


def flag(name: str, value: Any) -> bool:
    """`value` as a bool; 0, 1 and strings are refused."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be a bool. Received: {name}={value!r}")
    return value


def data_format(value: Any) -> str:
    """`value` as a Keras data format; None means Keras' setting."""
    if value is None:
        return keras.config.image_data_format()
    return choice("data_format", value, ("channels_last", "channels_first"))


def spatial_rank(layer: str, shape: Any) -> int:
    """How many spatial axes an input of this shape has: 1, 2 or 3."""
    shape = tuple(shape)
    if not 3 <= len(shape) <= 5:
        raise ValueError(
            f"The input of {layer} must have 3, 4 or 5 axes: batch, channels and one "
            f"to three spatial axes. Received: input shape {shape}"
        )
    return len(shape) - 2


def channels(layer: str, shape: Any, data_format: str) -> int:
    """The number of channels of an input, which a layer with weights must know."""
    spatial_rank(layer, shape)
    count = shape[1 if data_format == "channels_first" else -1]
    if count is None:
        raise ValueError(
            f"The input of {layer} must have a known number of channels. "
            f"Received: input shape {tuple(shape)} in {data_format}"
        )
    return count
