"""Functions as they are passed to child processes, by name with pickled arguments, and the answers."""

import json
import pickle
from collections.abc import Callable
from typing import Any

from gym_core.errors import WorkerError, WorkerHungError, WorkerLostError


def function_name(function: Callable[..., Any] | str) -> str:
    """The name "package.module:function" by which a child process can import a function.

    Raises:
        WorkerLostError: The function has no such name.
    """
    if isinstance(function, str):
        if not all(function.partition(":")):
            raise WorkerLostError(f"a function's name must be 'package.module:function', not {function!r}")
        return function
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if module is None or name is None or "<" in name or module == "__main__":
        raise WorkerLostError(
            f"a child process could not import {function!r}; it must be a top-level function of a module other than "
            "the program itself, no lambda and no nested function"
        )
    return f"{module}:{name}"


def pickled_arguments(name: str, args: tuple[Any, ...]) -> bytes:
    """Pickle arguments for a child process.

    Raises:
        WorkerLostError: The arguments can't be pickled.
    """
    try:
        return pickle.dumps(args)
    except Exception as error:  # methods of the arguments may raise anything
        raise WorkerLostError(
            f"the arguments of {name} must be picklable, and are not: {type(error).__name__}: {error}"
        ) from error


def call_result(name: str, answer: str, exit_status: int) -> Any:
    """Read the result of an untrusted call from the output of its process.

    Raises:
        WorkerHungError: The process wrote no answer.
        WorkerLostError: The process could not import the function.
        WorkerError: The function raised.
    """
    try:
        kind, value = json.loads(answer)
    except (ValueError, TypeError, RecursionError) as error:
        raise WorkerHungError(f"{name} ended without an answer, with exit status {exit_status}") from error
    if kind == "value":
        return value
    if kind == "missing":
        raise WorkerLostError(f"a child process could not import {name}: {value}")
    raise WorkerError(str(value))
