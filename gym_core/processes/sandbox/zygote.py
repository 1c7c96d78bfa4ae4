"""The zygote: a process that has imported the modules of its runs, and forks each run.

It never reads what it hands on, so that nothing of one run is in the memory of the next; and where it isolates, it is
the first process of a pid namespace, so that all runs end with it.
"""

import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from resource import getpagesize
from typing import Any, NoReturn

from gym_core.processes.sandbox import child, clocks
from gym_core.processes.sandbox.isolation import Host, enter_namespaces, hide_host, isolate_run
from gym_core.processes.sandbox.kernel import CLONE_NEWPID, filter_system_calls, set_pid_namespace, unshare

_TICK_S = 0.02


@dataclass(frozen=True)
class _Spare:
    """A process that is isolated already and waits to become a run."""

    pid: int
    channel: socket.socket
    directory: str | None  # where nothing isolates it


@dataclass
class _Run:
    pid: int
    pidfd: int
    status: socket.socket  # shut by the caller: kill the run
    cpu_s: float
    directory: str | None
    limit: str | None = None
    busy_s: float | None = None  # when the caller had it killed

    def kill(self) -> None:
        if self.directory:
            with suppress(OSError):  # before it has made itself a session
                os.killpg(self.pid, signal.SIGKILL)
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)


def main() -> None:
    """Serve runs over the socket on standard input until the caller is gone."""
    control = socket.socket(fileno=os.dup(0))
    settings = json.loads(control.recv(1 << 20))
    parent = os.pidfd_open(os.getppid())
    host = None
    try:
        if settings["isolate"]:
            host = enter_namespaces()
        for name in settings["modules"]:
            importlib.import_module(name)
        for name in [name for name in sys.modules if name.partition(".")[0] == "gym_core"]:
            del sys.modules[name]  # they are the zygote's, not a run's
        if len(os.listdir("/proc/self/task")) > 1:
            raise RuntimeError("a module has started threads, which a fork would break")
        mapped_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * getpagesize()
        if host:
            hide_host()
    except Exception as error:  # the process boundary: whatever it is, the caller is told
        control.send(f"{type(error).__name__}: {error}".encode())
        sys.exit(1)
    control.send(b"ready")
    gc.collect()
    gc.freeze()  # or the collector of a run would copy every page
    _Zygote(control, parent, host, mapped_bytes, settings["disk_bytes"]).serve()


class _Zygote:
    def __init__(
        self, control: socket.socket, parent: int, host: Host | None, mapped_bytes: int, disk_bytes: int
    ) -> None:
        self._control = control
        self._parent = parent
        self._host = host
        self._mapped_bytes = mapped_bytes
        self._disk_bytes = disk_bytes
        self._spare = self._fork()
        self._runs: dict[int, _Run] = {}  # by each of its two descriptors
        self._poll = select.poll()
        for descriptor in (control.fileno(), parent):
            self._poll.register(descriptor, select.POLLIN)

    def serve(self) -> NoReturn:
        while True:
            for descriptor, _ in self._poll.poll(_TICK_S * 1000 if self._runs else None):
                run = self._runs.get(descriptor)
                if descriptor == self._parent:
                    self._leave()
                elif descriptor == self._control.fileno():
                    self._receive()
                elif run and descriptor == run.pidfd:
                    self._report(run)
                elif run:
                    self._poll.unregister(descriptor)
                    run.busy_s = clocks.busy_s(self._host.proc if self._host else None, run.pidfd)
                    run.kill()
            for run in self._runs.values():
                if run.limit is None and clocks.cpu_s(run.pid) > run.cpu_s:
                    run.limit = "cpu"
                    run.kill()

    def _receive(self) -> None:
        message, descriptors, _, _ = socket.recv_fds(self._control, 64, 4)
        if not message:
            self._leave()
        spare, status = self._spare, socket.socket(fileno=descriptors[-1])
        with suppress(OSError):  # it was killed; then so is the run, which is reported
            socket.send_fds(spare.channel, [b"run"], descriptors)
        spare.channel.close()
        for stream in descriptors[:-1]:
            os.close(stream)
        run = _Run(spare.pid, os.pidfd_open(spare.pid), status, float(message), spare.directory)
        for descriptor in (run.pidfd, status.fileno()):
            self._runs[descriptor] = run
            self._poll.register(descriptor, select.POLLIN)
        self._spare = self._fork()

    def _fork(self) -> _Spare:
        ours, theirs = socket.socketpair()
        directory = None if self._host else tempfile.mkdtemp(prefix="gym-sandbox-")
        if self._host:
            unshare(CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            self._become(theirs, directory)
        theirs.close()
        if self._host:
            set_pid_namespace(self._host.pid_namespace)
        return _Spare(pid, ours, directory)

    def _become(self, channel: socket.socket, directory: str | None) -> NoReturn:
        """Isolate this process, wait for what it is to run, and run it."""
        problem = ""
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            _close_all_but({channel.fileno(), *([self._host.proc] if self._host else [])})
            if self._host:
                isolate_run(self._host, self._disk_bytes)
                filter_system_calls(self._host.call_filter)
            else:
                os.setsid()
                os.chdir(directory or "/")
        except BaseException as error:  # none of the code has run: this is not its fault
            problem = f"{type(error).__name__}: {error}"
        message, descriptors, _, _ = socket.recv_fds(channel, 64, 4)
        if not message:
            os._exit(0)  # the zygote is gone
        if problem:
            socket.socket(fileno=descriptors[-1]).send(json.dumps({"problem": problem}).encode())
            os._exit(1)
        for number, stream in enumerate(descriptors[:-1]):
            os.dup2(stream, number)
        _close_all_but(set())
        header = child.read_header()
        child.set_limits(header, self._mapped_bytes)
        child.play(header)

    def _report(self, run: _Run) -> None:
        if run.directory:
            run.kill()  # what it has left behind
        _, status, usage = os.wait4(run.pid, 0)
        report: dict[str, Any] = {
            "exit_status": os.waitstatus_to_exitcode(status),
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "limit": run.limit,
            "busy_s": run.busy_s,
        }
        with suppress(OSError):  # the caller has left
            run.status.send(json.dumps(report).encode())
        for descriptor in (run.pidfd, run.status.fileno()):
            del self._runs[descriptor]
            with suppress(KeyError):
                self._poll.unregister(descriptor)
        os.close(run.pidfd)
        run.status.close()
        if run.directory:
            shutil.rmtree(run.directory, ignore_errors=True)

    def _leave(self) -> NoReturn:
        for run in self._runs.values():
            run.kill()
            if run.directory:
                shutil.rmtree(run.directory, ignore_errors=True)
        if self._spare.directory:
            shutil.rmtree(self._spare.directory, ignore_errors=True)
        os._exit(0)  # which ends a pid namespace with all that is in it


def _close_all_but(kept: set[int]) -> None:
    start = 3
    for descriptor in sorted(kept):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))
