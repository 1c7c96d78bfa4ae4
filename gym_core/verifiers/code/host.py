"""The host of a solution: the process in which it lives, and which never sees the tests."""

import operator
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TextIO

from .values import from_json, to_json  # relative, as the judge is handed to the sandbox under another name

_OPERATIONS: dict[str, Callable[..., Any]] = {
    "attribute": getattr,
    "bool": bool,
    "call": lambda function, /, *args, **kwargs: function(*args, **kwargs),
    "items": list,
    "item": operator.getitem,
    "length": len,
    "next": next,
    "set item": operator.setitem,
    "text": str,
}
"""The operations of the judge on an object of the solution."""


def serve(channel: TextIO) -> NoReturn:
    """Load `solution.py`, then answer calls of its objects until the judge is gone.

    Args:
        channel: Stream to the judge and back.
    """
    objects: list[Any] = []

    def keep(value: Any) -> int:
        objects.append(value)
        return len(objects) - 1

    def answer(make: Callable[[], tuple[Any, Any]]) -> None:
        try:
            value, args = make()
            line = to_json(["value", value, args], keep)
        except Exception as error:
            names = [kind.__name__ for kind in type(error).__mro__]
            line = to_json(["error", [names, str(error)[:1000]], []])
        channel.write(line + "\n")
        channel.flush()

    def call(line: str) -> tuple[Any, Any]:
        number, operation, args, kwargs = from_json(line, objects.__getitem__)
        return _OPERATIONS[operation](objects[number], *args, **kwargs), [*args]

    answer(_load)
    while line := channel.readline():
        answer(lambda line=line: call(line))  # type: ignore[misc]  # mypy infers no lambda with defaults
    os._exit(0)


def _load() -> tuple[dict[str, Any], list[Any]]:
    """The names of the solution, without modules."""
    module = sys.modules["solution"] = types.ModuleType("solution")
    exec(compile(Path("solution.py").read_text(encoding="utf-8"), "solution.py", "exec"), module.__dict__)
    public = {name: value for name, value in vars(module).items() if not name.startswith("__")}
    return {name: value for name, value in public.items() if not isinstance(value, types.ModuleType)}, []
