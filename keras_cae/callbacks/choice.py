"""Which of the pooling layers of a model are meant."""

import fnmatch
from collections.abc import Callable
from typing import Any, TypeAlias

import keras

from keras_cae.callbacks.probe import Pool

Choice: TypeAlias = str | type[keras.Layer] | keras.Layer | Callable[[Any], Any]


def checked(layers: Any) -> list[Choice] | None:
    """`layers` as a list of choices, or None for all."""
    if layers is None:
        return None
    choices = list(layers) if isinstance(layers, (list, tuple)) else [layers]
    if not choices or not all(_is_choice(choice) for choice in choices):
        raise ValueError(
            "`layers` must be None, or one or several of: a name, a path, a pattern, "
            "a layer, a class of layers, a function of a layer. "
            f"Received: layers={layers!r}"
        )
    return choices


def chosen(model: keras.Model, pools: list[Pool], choices: list[Choice]) -> list[Pool]:
    """The pools that any of `choices` means; each of them must mean one."""
    means = {}
    for choice in choices:
        meant = _meant(model, pools, choice)
        if not meant:
            raise ValueError(
                "`layers` must name pooling layers of the model, which are "
                f"{[pool.name for pool in pools]}. Received: {choice!r}, which is none "
                "of them"
            )
        means.update({pool.name: pool for pool in meant})
    return [pool for pool in pools if pool.name in means]


def _is_choice(value: Any) -> bool:
    return isinstance(value, (str, keras.Layer)) or (
        issubclass(value, keras.Layer) if isinstance(value, type) else callable(value)
    )


def _meant(model: keras.Model, pools: list[Pool], choice: Choice) -> list[Pool]:
    if isinstance(choice, str):
        return [pool for pool in pools if _is_called(pool, choice)]
    if isinstance(choice, keras.Layer):
        owners = [choice]
    elif isinstance(choice, type):
        layers = model._flatten_layers()
        owners = [layer for layer in layers if isinstance(layer, choice)]
    else:
        return [pool for pool in pools if choice(pool.layer)]
    inside = {id(part) for owner in owners for part in owner._flatten_layers()}
    return [pool for pool in pools if id(pool.layer) in inside]


def _is_called(pool: Pool, pattern: str) -> bool:
    names = (pool.name, pool.name.rpartition("/")[-1], pool.layer.name)
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)
