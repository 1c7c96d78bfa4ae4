"""Ways to isolate, and which of them work on this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from gym_core.errors import WorkerLostError
from gym_core.processes.sandbox.backends import Backend, Forks
from gym_core.processes.sandbox.docker import Docker
from gym_core.processes.sandbox.programs import bubblewrap
from gym_core.processes.sessions import Server
from gym_core.processes.zygote import RefusedError

Isolation = Literal["namespaces", "bubblewrap", "none"]
"""A way to isolate. "none" is for trusted code, which gets limits and its own directory, but sees the machine."""

DISK_BYTES = 64 << 20


def open_backend(isolation: Isolation | Backend | None, modules: Sequence[str]) -> Backend:
    """The back end of a sandbox.

    Raises:
        WorkerLostError: The sandbox can't isolate here.
    """
    if isolation is not None and not isinstance(isolation, str):
        return isolation
    problems = []
    for way in [isolation] if isolation else ["namespaces", "bubblewrap"]:
        try:
            return _open_way(way, modules)
        except RefusedError as error:
            problems.append(f"{way}: {error}")
    raise WorkerLostError(
        f"a sandbox must isolate the code it runs, and can't here ({'; '.join(problems)}); "
        "Sandbox(isolation=Docker('python:3.12-slim')) runs it in containers, on Linux and macOS; "
        "on Linux, Sandbox(isolation='none') runs code that you trust; on Windows, use WSL"
    )


class LazyBackend:
    """The back end of a sandbox, for any thread; opened on first use, and again when its zygote has died."""

    def __init__(self, isolation: Isolation | Backend | None, modules: Sequence[str]) -> None:
        self._isolation = isolation
        self._modules = modules
        self._backend: Backend | None = None
        self._is_closed = False
        self._opening = threading.Lock()

    def get(self) -> Backend:
        """The back end; raises the same as `open_backend`, and WorkerLostError once it is closed."""
        with self._opening:
            if self._is_closed:
                raise WorkerLostError("the sandbox is closed")
            if self._backend and not self._backend.is_alive():
                self._backend.close()
                self._backend = None
            if self._backend is None:
                self._backend = open_backend(self._isolation, self._modules)
            return self._backend

    def open_box(self, settings: Mapping[str, Any], channel: int) -> Server:
        """Start the server of a session; raises WorkerLostError if that is not possible."""
        for is_last in (False, True):
            backend = self.get()
            if not isinstance(backend, Forks | Docker) or not backend.opens_boxes:
                raise WorkerLostError("a session needs namespaces or Docker, and this sandbox isolates by neither")
            try:
                return backend.open_box(settings, channel)
            except WorkerLostError:
                if is_last:
                    raise
            backend.close()  # its zygote may have been killed unnoticed
        raise AssertionError

    def close(self) -> None:
        """End all runs and sessions, even one that is about to start."""
        with self._opening:
            self._is_closed = True
            if self._backend:
                self._backend.close()


def isolation_problem(way: Isolation) -> str | None:
    """Say why a way to isolate does not work on this machine; None if it does."""
    try:
        _open_way(way, ()).close()
    except (RefusedError, OSError) as error:  # an OSError means that this platform lacks something
        return str(error)
    return None


def _open_way(way: str, modules: Sequence[str]) -> Backend:
    ways: dict[str, Callable[[], Backend]] = {
        "namespaces": lambda: Forks(modules, isolate=True, disk_bytes=DISK_BYTES),
        "bubblewrap": lambda: bubblewrap(DISK_BYTES),
        "none": lambda: Forks(modules, isolate=False, disk_bytes=DISK_BYTES),
    }
    return ways[way]()
