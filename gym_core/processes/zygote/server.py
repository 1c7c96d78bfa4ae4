"""The process of a zygote, which imports modules and forks processes that have them, until its caller is gone.

It has one thread, and never reads what it passes on, so nothing of one process is in the memory of the next. With
isolation, it is the first process of a pid namespace, so all others end with it. Without, it adopts the orphans of its
forks and kills them.
"""

import importlib
import json
import os
import select
import shutil
import signal
import socket
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from gym_core.processes.kernel import (
    CLONE_NEWPID,
    Host,
    adopt_orphans,
    enter_namespaces,
    hide_host,
    mapped_bytes,
    set_pid_namespace,
    unshare,
)
from gym_core.processes.zygote.imports import Entry, describe, freeze, has_threads, load, load_entries
from gym_core.processes.zygote.newborn import MESSAGE_BYTES, MOST_DESCRIPTORS, Newborn


@dataclass(frozen=True)
class _Process:
    """A forked process that waits for an entry to run, or runs it."""

    pid: int
    pidfd: int
    channel: socket.socket
    directory: str | None


def serve(settings: Mapping[str, Any]) -> NoReturn:
    """Serve the process at the other end of standard input until it is gone.

    Args:
        settings: Settings made by `client.Zygote`.
    """
    control = socket.socket(fileno=os.dup(0))
    os.dup2(1, 0)
    parent = os.pidfd_open(os.getppid())
    host, module = None, None
    try:
        entries = load_entries(settings["entries"])
        if settings["isolate"]:
            host = enter_namespaces()
        else:
            adopt_orphans()
        for module in settings["modules"]:
            importlib.import_module(module)
            if has_threads():
                raise RuntimeError("it has started threads, which a fork would break")
        module = None
        if host:
            hide_host()
    except BaseException as error:  # the process boundary: the caller is told of any failure
        control.send(json.dumps({"problem": describe(error), "module": module}).encode())
        os._exit(1)
    freeze()
    control.send(b"{}")
    _Zygote(control, parent, host, entries, settings).serve()


class _Zygote:
    def __init__(
        self,
        control: socket.socket,
        parent: int,
        host: Host | None,
        entries: Mapping[str, Entry],
        settings: Mapping[str, Any],
    ) -> None:
        self._control = control
        self._parent = parent  # its end is noticed even if one of its forks keeps the control open
        self._host = host
        self._entries = entries
        self._box_bytes: int | None = settings["box_bytes"]
        self._spare: _Process | None = None  # forked ahead, isolated already
        self._running: dict[int, tuple[_Process, socket.socket]] = {}  # by each descriptor of theirs that is polled
        self._poll = select.poll()
        for descriptor in (control.fileno(), parent):
            self._poll.register(descriptor, select.POLLIN)

    def serve(self) -> NoReturn:
        if self._host:
            self._spare = self._fork()
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._parent:
                    self._leave()
                elif descriptor == self._control.fileno():
                    self._receive()
                elif descriptor in self._running:
                    process, status = self._running[descriptor]
                    if descriptor == process.pidfd:
                        self._report(process, status)
                    else:
                        self._poll.unregister(descriptor)
                        self._kill(process)

    def _receive(self) -> None:
        message, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES, MOST_DESCRIPTORS)
        if not message:
            self._leave()
        request = json.loads(message)
        if "import" in request:
            if self._spare:
                self._end(self._spare)
                self._spare = None
            self._control.send(json.dumps(load(request["import"], request["path"])).encode())
        else:
            self._start(message, descriptors)

    def _start(self, message: bytes, descriptors: list[int]) -> None:
        """Let a process run the entry in a message; the last descriptor is for reports to the caller."""
        process, self._spare = self._spare or self._fork(), None
        with suppress(OSError):  # it was killed, and that is reported
            socket.send_fds(process.channel, [message], descriptors)
        process.channel.close()
        status = socket.socket(fileno=descriptors.pop())
        for descriptor in descriptors:
            os.close(descriptor)
        with suppress(OSError):  # the caller has left
            socket.send_fds(status, [b"{}"], [process.pidfd])
        for descriptor in (process.pidfd, status.fileno()):
            self._running[descriptor] = process, status
            self._poll.register(descriptor, select.POLLIN)
        self._spare = self._fork()

    def _fork(self) -> _Process:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        directory, mapped, zygote = None, mapped_bytes(self._proc), os.getpid()
        if self._host:
            unshare(CLONE_NEWPID)
        elif self._box_bytes is not None:
            directory = tempfile.mkdtemp(prefix="gym-sandbox-")
        pid = os.fork()
        if pid == 0:
            Newborn(theirs, self._host, mapped, zygote).live(self._entries, directory, self._box_bytes or 0)
        theirs.close()
        if self._host:
            set_pid_namespace(self._host.pid_namespace)
        return _Process(pid, os.pidfd_open(pid), ours, directory)

    @property
    def _proc(self) -> int | None:
        return self._host.proc if self._host else None

    def _report(self, process: _Process, status: socket.socket) -> None:
        exit_status, cpu_s = self._end(process)
        with suppress(OSError):  # the caller has left
            status.send(json.dumps({"exit_status": exit_status, "cpu_s": cpu_s}).encode())
        del self._running[status.fileno()]
        with suppress(KeyError):
            self._poll.unregister(status.fileno())
        status.close()

    def _end(self, process: _Process) -> tuple[int, float]:
        """End a process with everything it has started; return its exit status and CPU seconds."""
        self._kill(process)
        _, status, usage = os.wait4(process.pid, 0)
        if process.pidfd in self._running:
            del self._running[process.pidfd]
            self._poll.unregister(process.pidfd)
        os.close(process.pidfd)
        process.channel.close()
        if not self._host:
            self._end_orphans()
        if process.directory:
            shutil.rmtree(process.directory, ignore_errors=True)
        return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime

    def _end_orphans(self) -> None:
        """End what ended processes have left behind, even in other sessions.

        Each running process adopts the orphans below it, so all other children of the zygote are orphans.
        """
        living = {process.pid for process, _ in self._running.values()} | {self._spare.pid if self._spare else 0}
        while orphans := _children() - living:
            for orphan in orphans:
                os.kill(orphan, signal.SIGKILL)
            for orphan in orphans:
                os.waitpid(orphan, 0)

    def _kill(self, process: _Process) -> None:
        signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
        if not self._host:
            with suppress(ProcessLookupError):  # it has no group of its own yet
                os.killpg(process.pid, signal.SIGKILL)

    def _leave(self) -> NoReturn:
        """End all processes and this one."""
        if self._host:
            os._exit(0)  # this ends its pid namespace with everything in it
        for process in {process.pid: process for process, _ in self._running.values()}.values():
            self._end(process)
        if self._spare:
            self._end(self._spare)
        os._exit(0)


def _children() -> set[int]:
    pid = os.getpid()
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return {int(child) for child in file.read().split()}
