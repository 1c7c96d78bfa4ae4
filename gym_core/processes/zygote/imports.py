"""What a zygote imports: the functions it can be told to run, and modules for them to find imported."""

import gc
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

Entry = Callable[[Any, list[int]], object]
"""What a forked process runs: it takes its settings, as JSON holds them, and the descriptors it was given."""


def load_entries(names: Sequence[str]) -> dict[str, Entry]:
    """The functions "package.module:function" by their names, with every module of this package forgotten.

    The modules are the zygote's own, and stand in the way of the whole package.
    """
    entries = {}
    for name in names:
        module, _, attribute = name.partition(":")
        entries[name] = attrgetter(attribute)(importlib.import_module(module))
    for name in [name for name in sys.modules if name.partition(".")[0] == "gym_core"]:
        del sys.modules[name]
    return entries


def load(name: str, path: list[str]) -> dict[str, Any]:
    """Import a module; what went wrong, and whether this process has threads now."""
    problem, sys.path[:] = None, path
    try:
        importlib.import_module(name)
    except BaseException as error:  # the process boundary: whatever it is, the caller is told
        problem = describe(error)
    freeze()
    return {"problem": problem, "threads": has_threads()}


def freeze() -> None:
    """Keep the collector of a forked process from copying every page."""
    gc.collect()
    gc.freeze()


def has_threads() -> bool:
    """Whether this process has more than one thread."""
    return len(os.listdir("/proc/self/task")) > 1


def describe(error: BaseException) -> str:
    """The type and text of an exception."""
    return f"{type(error).__name__}: {error}"[:1000]
