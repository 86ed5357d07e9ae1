"""Functions in a process of their own: what runs there disturbs nobody here.

TensorFlow and PyTorch each keep threads that linger awake for a while when their work
is done. Apart, and with nobody running while another is timed, neither slows the other.
"""

import multiprocessing
from collections.abc import Callable
from types import TracebackType
from typing import Any

from benchmarks.timing import Party, here


class Worker:
    """A fresh process that serves the functions that `make(*args)` returns there.

    Args:
        make: A function of a module, importable there; returns functions by name.
        *args: What it is given; must be picklable.
    """

    def __init__(self, make: Callable[..., dict[str, Callable]], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(there, make, args), daemon=True
        )
        self._process.start()
        there.close()
        self._answer()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pipe.close()
        self._process.join()

    def call(self, name: str, *args: Any) -> Any:
        """What a function returns."""
        self._pipe.send((name, args, None))
        return self._answer()

    def party(self, name: str) -> Party:
        """A function to be timed, by the clock of its own process."""

        def timed(number: int) -> float:
            self._pipe.send((name, (), number))
            return self._answer()

        return timed

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            raise RuntimeError("A process of the benchmark died.") from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(pipe: Any, make: Callable[..., dict[str, Callable]], args: Any) -> None:
    """Answers until the other side hangs up."""
    try:
        calls = make(*args)
        pipe.send(None)
        while True:
            name, given, number = pipe.recv()
            call = calls[name]
            pipe.send(call(*given) if number is None else here(call)(number))
    except EOFError:
        pass
    except Exception as error:
        pipe.send(error)
