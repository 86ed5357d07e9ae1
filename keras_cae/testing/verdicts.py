"""From a promise to the sentence that says which one broke, and how."""

from collections.abc import Callable, Mapping
from typing import Any

Promise = Callable[[Any], bool | None]


def kept(who: str, promises: Mapping[str, Promise], subject: Any) -> list[str]:
    """The names of the promises that apply to a subject, if it keeps them all.

    A promise is broken where its function raises, whatever it raises.
    """
    names = []
    for name, promise in promises.items():
        try:
            applies = promise(subject) is not False
        except AssertionError as error:
            raise AssertionError(f"{who}: {name}: {error}") from error
        except Exception as error:
            how = f"{type(error).__name__}: {error}"
            raise AssertionError(f"{who}: {name}: {how}") from error
        if applies:
            names.append(name)
    return names
