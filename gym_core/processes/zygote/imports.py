"""The imports of a zygote: the functions that its forks can run, and the modules they need."""

import gc
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

Entry = Callable[[Any, list[int]], object]
"""A function that a forked process runs, with its settings, a JSON value, and its descriptors."""


def load_entries(names: Sequence[str]) -> dict[str, Entry]:
    """Import functions by their names "package.module:function", and forget every module of this package.

    The forgotten modules are the zygote's own, which would hide the real package.
    """
    entries = {}
    for name in names:
        module, _, attribute = name.partition(":")
        entries[name] = attrgetter(attribute)(importlib.import_module(module))
    for name in [name for name in sys.modules if name.partition(".")[0] == "gym_core"]:
        del sys.modules[name]
    return entries


def load(name: str, path: list[str]) -> dict[str, Any]:
    """Import a module; return what went wrong, and whether this process now has threads."""
    problem, sys.path[:] = None, path
    try:
        importlib.import_module(name)
    except BaseException as error:  # the process boundary: the caller is told of any failure
        problem = describe(error)
    freeze()
    return {"problem": problem, "threads": has_threads()}


def freeze() -> None:
    """Keep the garbage collector of a fork from copying every page."""
    gc.collect()
    gc.freeze()


def has_threads() -> bool:
    """Whether this process has more than one thread."""
    return len(os.listdir("/proc/self/task")) > 1


def describe(error: BaseException) -> str:
    """The type and text of an exception."""
    return f"{type(error).__name__}: {error}"[:1000]
