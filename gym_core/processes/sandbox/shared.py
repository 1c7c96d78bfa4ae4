"""The shared sandboxes of this process."""

from __future__ import annotations

import atexit
from collections.abc import Sequence

from gym_core.processes.sandbox.runs import Sandbox

_shared: dict[tuple[str, ...], Sandbox] = {}  # by modules


def shared_sandbox(modules: Sequence[str] = ()) -> Sandbox:
    """The shared sandbox of this process for a set of modules; closed at exit."""
    key = tuple(modules)
    return _shared.get(key) or _shared.setdefault(key, Sandbox(modules))


@atexit.register
def _close_shared() -> None:
    while _shared:
        _shared.popitem()[1].close()
