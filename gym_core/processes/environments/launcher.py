"""The launcher: starts the processes in which environments live."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import socket
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from gym_core.environments import EnvironmentFactory, members
from gym_core.errors import WorkerLostError
from gym_core.processes.environments.child import DESCRIPTORS
from gym_core.processes.environments.children import Process
from gym_core.processes.environments.main_module import find_main, needs_main
from gym_core.processes.zygote import (
    Child,
    End,
    Spawned,
    Spawner,
    Zygote,
    allowed_environment,
    forget_in_forks,
    missing,
)

_ENTRY = "gym_core.processes.environments.child:live"
_HOST = "gym_core.processes.environments.host"


class Launcher:
    """Starts children; for any thread.

    Args:
        env: Factory of the environments; pickled for the children.
        variables: Names of further environment variables for the children.
    """

    def __init__(self, env: EnvironmentFactory, variables: Sequence[str]) -> None:
        payload = pickle.dumps(env)
        self._payload, path = tempfile.mkstemp()  # all children read it when they start
        os.unlink(path)
        with open(self._payload, "wb", closefd=False) as file:
            file.write(payload)
        self._main = find_main() if needs_main(payload) else None
        self._modules = sorted({_module(member) for member in members(env).values()} - {"__main__"})
        self._variables = variables
        self._lock = threading.RLock()  # the garbage collector may close this while a process starts
        self._is_closed = False
        self._zygote: Zygote | Spawner | None = None
        forget_in_forks(self)

    def start(self, channels: list[socket.socket]) -> Process:
        """Start a process that serves one place per socket.

        Raises:
            WorkerLostError: The process can't be started.
        """
        door, theirs = socket.socketpair()
        with contextlib.ExitStack() as stack, theirs, self._lock:
            stack.enter_context(door)
            for start in range(0, len(channels), DESCRIPTORS):
                numbers = [channel.fileno() for channel in channels[start : start + DESCRIPTORS]]
                socket.send_fds(door, [b"."], numbers)
            settings = {"main": self._main, "places": len(channels), "outlives": bool(missing())}
            outputs = [_output(number) for number in (1, 2)]
            try:
                child = self._fork(settings, [self._payload, theirs.fileno(), *outputs])
            finally:
                for output in outputs:
                    os.close(output)
            stack.pop_all()
            return _Started(child, door)

    def close(self) -> None:
        """End the zygote with all children."""
        with self._lock:
            self._is_closed = True
            os.close(self._payload)
            if self._zygote:
                self._zygote.close()

    def forget(self) -> None:
        """Leave the zygote to the process from which this one was forked."""
        self._lock = threading.RLock()
        self._zygote = None

    def _fork(self, settings: dict[str, Any], descriptors: Sequence[int]) -> Child | Spawned:
        if self._zygote:
            with suppress(WorkerLostError):  # it was killed
                return self._zygote.fork(_ENTRY, settings, descriptors)
            self._zygote.close()
        self._zygote = self._made()
        if self._is_closed:
            self._zygote.close()
        return self._zygote.fork(_ENTRY, settings, descriptors)

    def _made(self) -> Zygote | Spawner:
        """A zygote with the modules of the environments; without them if they can't be imported before a fork."""
        if missing():
            return Spawner([_ENTRY], env=allowed_environment(self._variables))
        make = partial(Zygote, [_ENTRY], [_HOST], env=allowed_environment(self._variables))
        zygote = make()
        try:
            if not any(zygote.load(module) for module in self._modules):
                return zygote
        except WorkerLostError:
            pass  # the host reports it, with a traceback
        zygote.close()
        return make()


class _Started:
    """A child, and the socket that closes when its parent is gone."""

    def __init__(self, child: Child | Spawned, door: socket.socket) -> None:
        self._child = child
        self._door = door
        self._is_closed = False
        self._fate: str | None = None
        self._poll = select.poll()
        self._poll.register(child, select.POLLIN)

    def kill(self) -> None:
        if not self._is_closed:
            self._child.kill()

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._door.close()
            self._child.close()
        self._fate = self._fate or "was ended"

    def forget(self) -> None:
        self._door.close()
        self._child.forget()

    def fate(self) -> str | None:
        if self._fate is None and not self._is_closed and self._poll.poll(0):
            self._fate = _fate(self._child.end())
        return self._fate


def _output(number: int) -> int:
    """A copy of standard output or standard error, for a child in which descriptors get other numbers."""
    try:
        return os.dup(number)
    except OSError:  # it is closed
        return os.open(os.devnull, os.O_WRONLY)


def _fate(end: End) -> str:
    if end.problem:
        return f"was lost: {end.problem}"
    if end.is_lost:
        return "was killed by signal 9, as the kernel does when no memory is left"
    if end.exit_status < 0:
        return f"was killed by signal {-end.exit_status}"
    return f"ended with exit status {end.exit_status}"


def _module(env: EnvironmentFactory) -> str:
    return env.__module__ if isinstance(env, type) else type(env).__module__
