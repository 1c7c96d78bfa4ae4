"""The zygote: a process without threads that imports modules, and forks one worker after the other to run them."""

from __future__ import annotations

import _thread
import gc
import json
import os
import pickle
import resource
import select
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any, NoReturn

from gym_core.processes.sandbox.kernel import adopt_orphans, die_with_parent

_MESSAGE_BYTES = 1 << 16
_MOST_CALLS = 10_000  # of a worker: what a library leaks must not fill the memory of later calls
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


def main(memory_bytes: int | None) -> NoReturn:
    """Serve the process at the other end of standard input until it is gone."""
    control = socket.socket(fileno=os.dup(0))
    os.dup2(1, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    adopt_orphans()
    _Zygote(control, memory_bytes).serve()


class _Zygote:
    def __init__(self, control: socket.socket, memory_bytes: int | None) -> None:
        self._control = control
        self._memory_bytes = memory_bytes
        # Its end is seen even where a process that it has forked keeps the control open.
        self._parent = os.pidfd_open(os.getppid())
        self._worker: tuple[int, int] | None = None  # process id and descriptor
        self._poll = select.poll()
        self._poll.register(self._control, select.POLLIN)
        self._poll.register(self._parent, select.POLLIN)

    def serve(self) -> NoReturn:
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._parent:
                    self._leave()
                elif descriptor == self._control.fileno():
                    self._receive()
                else:
                    self._control.send(json.dumps({"exit_status": self._end_worker()}).encode())

    def _receive(self) -> None:
        message, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, 1)
        if not message:
            self._leave()
        request = json.loads(message)
        if "import" in request:
            self._control.send(json.dumps(_import(request["import"], request["path"])).encode())
        elif "fork" in request:
            self._fork(socket.socket(fileno=descriptors[0]), request["fork"])
        elif self._worker:
            os.kill(self._worker[0], signal.SIGKILL)  # its end is then reported

    def _fork(self, channel: socket.socket, threaded: list[str]) -> None:
        zygote = os.getpid()
        pid = os.fork()
        if pid == 0:
            die_with_parent(signal.SIGKILL)
            if os.getppid() != zygote:
                os._exit(1)
            self._control.close()
            os.close(self._parent)
            _live(channel, threaded, self._memory_bytes)
        channel.close()
        self._worker = pid, os.pidfd_open(pid)
        self._poll.register(self._worker[1], select.POLLIN)

    def _end_worker(self) -> int:
        """End the worker with all that it has started, in other sessions too; its exit status."""
        assert self._worker
        (pid, pidfd), self._worker = self._worker, None
        os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):  # it has not come to make a group of its own
            os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        while orphans := _children():
            for orphan in orphans:
                os.kill(orphan, signal.SIGKILL)
            for orphan in orphans:
                os.waitpid(orphan, 0)
        return os.waitstatus_to_exitcode(status)

    def _leave(self) -> NoReturn:
        if self._worker:
            self._end_worker()
        os._exit(0)


def _import(name: str, path: list[str]) -> dict[str, Any]:
    problem, sys.path[:] = None, path
    try:
        import_module(name)
    except BaseException as error:  # the process boundary: whatever it is, the caller is told
        problem = _description(error)
    gc.collect()
    gc.freeze()  # or the collector of a worker would copy every page
    return {"problem": problem, "threads": len(os.listdir("/proc/self/task")) > 1}


def _children() -> list[int]:
    pid = os.getpid()
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def _live(channel: socket.socket, threaded: list[str], memory_bytes: int | None) -> NoReturn:
    """Live the life of a worker: answer calls until it is killed."""
    os.setsid()
    adopt_orphans()
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    pid, calls = os.getpid(), channel.makefile("rb")
    hello = json.dumps(["ready", pid, True])
    try:
        for name in threaded:
            import_module(name)
    except BaseException as error:  # the process boundary: whatever it is, the caller is told
        hello = json.dumps(["problem", _description(error), False])
    threads, answered = _thread._count(), 0
    channel.sendall(hello.encode() + b"\n")
    while True:
        kind, value = _answer(*pickle.load(calls))
        if os.getpid() != pid:
            os._exit(0)  # the function forked; only one of the two may answer
        answered += 1
        is_left = _thread._count() > threads or _has_timers() or _has_children()
        is_clean = kind != "memory" and not is_left and answered < _MOST_CALLS
        channel.sendall(f'["{kind}", {value}, {json.dumps(is_clean)}]\n'.encode())


def _answer(name: str, arguments: bytes) -> tuple[str, str]:
    """Run a function: "value", "error", "memory" or "missing", and what goes with it as JSON."""
    module, _, attribute = name.partition(":")
    try:
        function = attrgetter(attribute)(sys.modules[module])
    except AttributeError as error:
        return "missing", json.dumps(str(error))
    try:
        return "value", json.dumps(function(*pickle.loads(arguments)))
    except MemoryError:
        return "memory", "null"
    except BaseException as error:  # the process boundary: whatever it is, the caller is told
        return "error", json.dumps(_description(error))


def _description(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:1000]


def _has_timers() -> bool:
    return any(any(signal.getitimer(timer)) for timer in _TIMERS)


def _has_children() -> bool:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
        return True
    return False
