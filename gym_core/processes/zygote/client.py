"""The zygote and the processes it forks, seen from the process that started it."""

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
# Its packages are stand-ins: what they would import, every process would be forked with.
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
    """A way to isolate is not permitted on this machine, or lacks something."""


class Zygote:
    """A clean interpreter with one thread that forks processes; for one thread at a time.

    A process that is forked has the modules that the zygote has imported, none of its caller's descriptors, and the
    environment variables named here. It ends with its zygote, which ends with its caller. In a process forked from its
    caller, the zygote is gone.

    Args:
        entries: What processes can be told to run: "package.module:function", of a module that imports the standard
            library and `gym_core.processes.kernel` only, unless by the functions that need more. The function takes
            settings, as JSON holds them, and descriptors.
        modules: Modules to import, by name; they must not start threads.
        isolate: With namespaces and a filter of system calls, as `kernel` describes them.
        box_bytes: Size of a directory of its own for each process, its current one; None for none. Without isolation,
            the size is not limited.
        env: The environment variables.
        check: Called every few hundredths of a second while the zygote starts; it may raise.

    Raises:
        RefusedError: It could not be isolated, or this system lacks what a zygote needs.
        WorkerLostError: It could not import a module, or died.
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
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", BOOT + _SERVE, json.dumps(settings)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=env,
                cwd="/" if isolate else None,
                start_new_session=True,
            )
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
        """Import one more module, for processes forked from now on; whether no more can be, as it started threads.

        Raises:
            WorkerLostError: It can't be imported, or the zygote is gone.
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
            entry: One of the zygote's.
            settings: What the function takes, as JSON holds it; at most 60 kB.
            descriptors: What the process gets, at most 15, with other numbers; the caller keeps its own.
            limits: What `kernel.set_limits` takes.

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
        """It can fork."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the zygote with all that it has forked."""
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)  # upon which it ends its processes and itself
        self._control.close()
        if self._process.returncode is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def forget(self) -> None:
        """Leave the zygote to the process that has started it, which this one was forked from."""
        self._control.close()
        self._process.returncode = 0  # it is not for this process to wait for

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
        with suppress(OSError):  # it was killed before it had read what it was sent
            message = self._control.recv(MESSAGE_BYTES)
        if not message:
            self.close()
            raise WorkerLostError("the zygote died")
        answer: dict[str, Any] = json.loads(message)
        return answer


def import_path() -> list[str]:
    """Where this process finds modules."""
    return [str(entry) or os.getcwd() for entry in sys.path]


def packages(entries: Sequence[str]) -> dict[str, str]:
    """The packages of the zygote's own modules, and their directories."""
    top = Path(__file__).parents[2]
    names = {"gym_core.processes.zygote"} | {entry.partition(":")[0].rpartition(".")[0] for entry in entries}
    parts = {tuple(name.split(".")[1:length]) for name in names for length in range(1, name.count(".") + 2)}
    return {".".join(("gym_core", *part)): str(top.joinpath(*part)) for part in sorted(parts)}
