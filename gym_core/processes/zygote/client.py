"""The zygote and its forks, seen from the process that started it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gym_core.errors import WorkerLostError
from gym_core.processes.zygote.child import MESSAGE_BYTES, START_S, Child
from gym_core.processes.zygote.forks import forget_in_forks
from gym_core.processes.zygote.platform import missing

_END_S = 10.0
_TICK_MS = 20
# Its packages are stand-ins, since every fork would have whatever they import.
BOOT = """
import json, sys, types
settings = json.loads(sys.argv[1])
sys.path[:] = settings["path"]
for name, directory in settings["packages"].items():
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [directory]
"""
_SERVE = "from gym_core.processes.zygote.server import serve\nserve(settings)\n"


class RefusedError(Exception):
    """A way to isolate is not permitted on this machine, or something it needs is missing."""


class Zygote:
    """A clean interpreter with one thread that forks processes.

    `fork` is for any thread, all else for one thread at a time.

    A forked process has the modules that the zygote has imported, none of the caller's descriptors, and the environment
    variables given here. It ends with its zygote, which ends with its caller. In a process forked from the caller, the
    zygote is gone.

    Args:
        entries: Functions that processes can run, as "package.module:function". The module must import only the
            standard library and `gym_core.processes.kernel`; functions import what else they need. A function takes
            settings, a JSON value, and descriptors.
        modules: Names of modules to import; they must not start threads.
        isolate: Whether to isolate by namespaces and a filter of system calls, as `kernel` describes them.
        box_bytes: Size of the directory that each process gets as its current one; None for no directory. Without
            isolation, the size is not limited.
        env: Environment variables.
        check: Function that is called every few hundredths of a second while the zygote starts; it may raise.

    Raises:
        RefusedError: The zygote could not be isolated, or this system lacks what it needs.
        WorkerLostError: The zygote could not be started, could not import a module, or died.
    """

    def __init__(
        self,
        entries: Sequence[str],
        modules: Sequence[str] = (),
        *,
        isolate: bool = False,
        box_bytes: int | None = None,
        env: Mapping[str, str],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        if lacking := missing():
            raise RefusedError(f"this system lacks {lacking}")
        settings = {
            "entries": list(entries),
            "modules": list(modules),
            "isolate": isolate,
            "box_bytes": box_bytes,
            "path": import_path(),
            "packages": packages(entries),
        }
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = _start(settings, env, theirs.fileno())
            except WorkerLostError:
                self._control.close()
                raise
        self._control_poll = select.poll()  # select() refuses the high descriptors of a busy trainer
        self._control_poll.register(self._control, select.POLLIN)
        forget_in_forks(self)
        answer = self._receive(check)
        if problem := answer.get("problem"):
            self.close()
            if answer["module"]:
                raise WorkerLostError(f"a child process could not import {answer['module']}: {problem}")
            raise RefusedError(problem)

    def load(self, module: str, *, check: Callable[[], None] = lambda: None) -> bool:
        """Import one more module for future forks; return whether it started threads, so that nothing can be forked.

        Raises:
            WorkerLostError: The module can't be imported, or the zygote is gone.
        """
        self._send({"import": module, "path": import_path()})
        answer = self._receive(check)
        if answer["problem"]:
            raise WorkerLostError(f"a child process could not import {module}: {answer['problem']}")
        return bool(answer["threads"])

    def fork(
        self,
        entry: str,
        settings: object = None,
        descriptors: Sequence[int] = (),
        *,
        limits: Mapping[str, float] | None = None,
    ) -> Child:
        """Fork a process that runs an entry.

        Args:
            entry: One of the zygote's entries.
            settings: Settings for the function, a JSON value of at most 60 kB.
            descriptors: At most 15 descriptors, which get other numbers in the process; the caller keeps its own.
            limits: Limits, as for `kernel.set_limits`.

        Raises:
            WorkerLostError: The zygote is gone.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            message = {"entry": entry, "settings": settings, "limits": limits or {}}
            try:
                self._send(message, *descriptors, theirs.fileno())
            except WorkerLostError:
                ours.close()
                raise
        return Child(ours, limits or {})

    def is_alive(self) -> bool:
        """Whether it can fork."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the zygote with everything it has forked."""
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)  # it then ends its processes and itself
        self._control.close()
        if self._process.returncode is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def forget(self) -> None:
        """Leave the zygote to the process that started it, from which this one was forked."""
        self._control.close()
        self._process.returncode = 0  # this process can't wait for it

    def _send(self, message: object, *descriptors: int) -> None:
        try:
            socket.send_fds(self._control, [json.dumps(message).encode()], descriptors)
        except OSError as error:
            raise WorkerLostError(f"the zygote is gone: {error}") from error

    def _receive(self, check: Callable[[], None]) -> dict[str, Any]:
        deadline_s = time.monotonic() + START_S
        while not self._control_poll.poll(_TICK_MS):
            try:
                check()
                if time.monotonic() > deadline_s:
                    raise WorkerLostError(f"an import took longer than {START_S:g} seconds")
            except BaseException:
                self.close()
                raise
        message = b""
        with suppress(OSError):  # it was killed before it read the message
            message = self._control.recv(MESSAGE_BYTES)
        if not message:
            self.close()
            raise WorkerLostError("the zygote died")
        answer: dict[str, Any] = json.loads(message)
        return answer


def _start(settings: Mapping[str, Any], env: Mapping[str, str], control: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", BOOT + _SERVE, json.dumps(settings)],
            stdin=control,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=env,
            cwd="/" if settings["isolate"] else None,
            start_new_session=True,
        )
    except OSError as error:
        raise WorkerLostError(f"{sys.executable} can't be started: {error}") from error


def import_path() -> list[str]:
    """The module search path of this process."""
    return [str(entry) or os.getcwd() for entry in sys.path]


def packages(entries: Sequence[str]) -> dict[str, str]:
    """The packages of the zygote's own modules, with their directories."""
    top = Path(__file__).parents[2]
    names = {"gym_core.processes.zygote"} | {entry.partition(":")[0].rpartition(".")[0] for entry in entries}
    parts = {tuple(name.split(".")[1:length]) for name in names for length in range(1, name.count(".") + 2)}
    return {".".join(("gym_core", *part)): str(top.joinpath(*part)) for part in sorted(parts)}
