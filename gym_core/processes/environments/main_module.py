"""The script that runs: a child imports it as a module, to find an environment that is defined there."""

from __future__ import annotations

import os
import runpy
import sys
import types
from dataclasses import dataclass

from gym_core.errors import EnvironmentSpecError

_PLAYS_ON_IMPORT = (
    "the main module plays episodes when it is imported, as child processes do to find the environment: "
    "put that under `if __name__ == '__main__':`, or the environment into a module of its own"
)
_CHILDS_NAME = "__mp_main__"  # as `multiprocessing` has it


@dataclass
class _Import:
    is_running: bool = False
    has_played: bool = False


_import = _Import()


def needs_main(payload: bytes) -> bool:
    """Whether the main module is needed to unpickle something."""
    return b"__main__" in payload


def find_main() -> tuple[str, str] | None:
    """How another process can import the main module of this one; None where it can't, as in a notebook."""
    main = sys.modules["__main__"]
    if (spec := getattr(main, "__spec__", None)) is not None:
        return "module", str(spec.name)
    file = getattr(main, "__file__", None)
    return ("path", os.path.abspath(file)) if file and os.path.exists(file) else None


def import_main(kind: str, place: str) -> None:
    """Import the main module of another process, once, under a name for which its last lines do not run.

    Args:
        kind: "module" or "path".
        place: The module's name or path.

    Raises:
        EnvironmentSpecError: It has tried to play episodes in processes.
    """
    if _CHILDS_NAME in sys.modules:
        return
    run = runpy.run_module if kind == "module" else runpy.run_path
    module = types.ModuleType(_CHILDS_NAME)
    _import.is_running = True
    try:
        module.__dict__.update(run(place, run_name=_CHILDS_NAME))
    finally:
        _import.is_running = False
        if _import.has_played:  # and has failed, in whatever way
            raise EnvironmentSpecError(_PLAYS_ON_IMPORT)
    sys.modules["__main__"] = sys.modules[_CHILDS_NAME] = module


def check_not_importing() -> None:
    """See that no episode is about to be played while this process, a child, imports the main module of its parent.

    Raises:
        EnvironmentSpecError: It is.
    """
    if _import.is_running:
        _import.has_played = True
        raise EnvironmentSpecError(_PLAYS_ON_IMPORT)
