"""The running script, which a child imports as a module to find an environment defined there."""

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
_CHILDS_NAME = "__mp_main__"  # the name that `multiprocessing` uses


@dataclass
class _Import:
    is_running: bool = False
    has_played: bool = False


_import = _Import()


def needs_main(payload: bytes) -> bool:
    """Whether the main module is needed to unpickle something."""
    return b"__main__" in payload


def find_main() -> tuple[str, str] | None:
    """How another process can import the main module of this one; None if it can't, as in a notebook."""
    main = sys.modules["__main__"]
    if (spec := getattr(main, "__spec__", None)) is not None:
        return "module", str(spec.name)
    file = getattr(main, "__file__", None)
    return ("path", os.path.abspath(file)) if file and os.path.exists(file) else None


def import_main(kind: str, place: str) -> None:
    """Import the main module of another process, once, under a name for which its last lines do not run.

    Args:
        kind: Kind of `place`: "module" or "path".
        place: Name or path of the module.

    Raises:
        EnvironmentSpecError: The module tried to play episodes in processes.
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
        if _import.has_played:  # and failed
            raise EnvironmentSpecError(_PLAYS_ON_IMPORT)
    sys.modules["__main__"] = sys.modules[_CHILDS_NAME] = module


def check_not_importing() -> None:
    """Check that no episode is played while this process, a child, imports the main module of its parent.

    Raises:
        EnvironmentSpecError: It is.
    """
    if _import.is_running:
        _import.has_played = True
        raise EnvironmentSpecError(_PLAYS_ON_IMPORT)
