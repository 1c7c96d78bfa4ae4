"""Remotes: stand-ins, in the judge's process, for what lives in the process of the solution."""

import builtins
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TextIO

from .values import from_json, to_json  # relative, as the judge is handed to the sandbox under another name

_MESSAGE_BYTES = 16 << 20


class SolutionEnded(BaseException):
    """The process of the solution has ended; no test can expect that, so it is not an Exception."""


class Solution:
    """The process of the solution; only data comes back from it.

    Args:
        channel: Stream to that process and back.
    """

    def __init__(self, channel: TextIO) -> None:
        self._channel = channel

    def ask(self, number: int, operation: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Have an object of the solution called, or used otherwise; changes to lists and dicts are made here too."""
        self._channel.write(to_json([number, operation, args, kwargs], _remote_number) + "\n")
        self._channel.flush()
        kind, value, changed = self.receive()
        for ours, theirs in zip(args, changed, strict=False):
            if type(ours) is type(theirs) and isinstance(ours, list | bytearray):
                ours[:] = theirs
            elif type(ours) is type(theirs) and isinstance(ours, dict | set):
                ours.clear()
                ours.update(theirs)
        if kind == "error":
            names, text = value
            raise _exception(names, text, ends_iteration=operation == "next")
        return value

    def receive(self) -> Any:
        """The next message: its kind, its value, and the arguments of the call as they are now.

        Raises:
            SolutionEnded: The process ended, or sent something else.
        """
        line = self._channel.readline(_MESSAGE_BYTES)
        if not line.endswith("\n"):
            raise SolutionEnded
        try:
            kind, value, changed = from_json(line, lambda number: Remote(number, self))
        except (TypeError, ValueError, RecursionError) as error:
            raise SolutionEnded from error
        return kind, value, changed


class Remote:
    """An object of the solution that is not data: it can be used from here, and equals only itself."""

    def __init__(self, number: int, solution: Solution) -> None:
        self._number = number
        self._solution = solution

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._solution.ask(self._number, "call", args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "pytestmark":
            raise AttributeError(name)  # an object must not pass for a fixture or a test
        return self._ask("attribute", name)

    def __getitem__(self, key: Any) -> Any:
        return self._ask("item", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._ask("set item", key, value)

    def __contains__(self, item: Any) -> bool:
        return item in iter(self)  # or it would claim to contain whatever it is asked for

    def __bool__(self) -> bool:
        return bool(self._ask("bool"))

    def __len__(self) -> int:
        return int(self._ask("length"))

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._ask("items")))

    def __next__(self) -> Any:
        return self._ask("next")

    def __str__(self) -> str:
        return str(self._ask("text"))

    def _ask(self, operation: str, *args: Any) -> Any:
        return self._solution.ask(self._number, operation, args, {})


def _remote_number(value: Any) -> int:
    if isinstance(value, Remote):
        return value._number
    raise TypeError(f"a test can pass data to the solution, not {type(value).__name__}")


def _exception(names: list[str], text: str, *, ends_iteration: bool) -> Exception:
    """The first exception of Python's own in a list of class names.

    One that ends an iteration stays itself only where an item was asked for: elsewhere it would quietly end a loop of
    the test, such as `all(map(f, cases))`.
    """
    for kind in (getattr(builtins, name, None) for name in names):
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            continue
        if issubclass(kind, StopIteration | StopAsyncIteration) and not ends_iteration:
            return RuntimeError(f"the solution raised {kind.__name__}: {text}")
        with suppress(TypeError):  # such as UnicodeDecodeError, which wants more than a text
            return kind(text)
    return RuntimeError(text)
