"""The watch over a run: its output while it is being produced, its wall time, and what became of it."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

from gym_core.errors import WorkerLostError
from gym_core.processes.sandbox.backends import Backend, End, Started
from gym_core.processes.sandbox.child import OUT_OF, STARTED

Limit = Literal["cpu", "wall", "memory", "output", "processes", "disk"]
"""What a run can use up: its CPU seconds, its wall seconds while asleep, and the rest as it says."""

_TICK_MS = 50
_END_S = 30.0  # for a killed run to end
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Ran:
    """What a run left; the limits it met and its exceptions are the code's fault.

    Attributes:
        stdout: What it wrote to standard output, at most `output_bytes` of it.
        stderr: The same of standard error, with the traceback of an exception.
        exit_status: 0 when all went well, 1 after an exception, negative for a signal, or what the code chose.
        limit: What it used up, if anything. "memory", "processes" and "disk" are told apart by the exception that the
            code let through, so a program can claim them; it never gains by that.
        cpu_s: CPU seconds it used, by processes it has left running not counted.
        wall_s: Seconds from its start to its end.
    """

    stdout: str
    stderr: str
    exit_status: int
    limit: Limit | None
    cpu_s: float
    wall_s: float

    @property
    def ok(self) -> bool:
        """It ran to its end, without an exception and within its limits."""
        return self.exit_status == 0 and self.limit is None


@dataclass(frozen=True)
class Request:
    """What a run is given, and what it may use as far as its process cannot limit itself."""

    stdin: bytes
    cpu_s: float
    wall_s: float
    output_bytes: int
    cancelled: threading.Event = field(default_factory=threading.Event)


def watch(backend: Backend, request: Request, closed: threading.Event) -> Ran:
    """Start a run and watch it to its end, in the calling thread.

    Raises:
        WorkerLostError: The run was lost, or the machine is too slow.
    """
    with ExitStack() as stack:
        stdin = os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        stack.callback(os.close, stdin)
        with open(stdin, "wb", closefd=False) as file:
            file.write(request.stdin)
        os.lseek(stdin, 0, os.SEEK_SET)
        fcntl.fcntl(stdin, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        for descriptor in (out, err):
            os.set_blocking(descriptor, False)
            stack.callback(os.close, descriptor)
        started_s = time.monotonic()
        try:
            run = backend.start(stdin, out_end, err_end, cpu_s=request.cpu_s)
        finally:
            os.close(out_end)
            os.close(err_end)
        stack.callback(run.close)
        watching = _Watch(run, request, closed, {out: bytearray(), err: bytearray()}, started_s)
        if not watching.until_end():
            backend.close()
            raise WorkerLostError(f"a run did not end within {_END_S:g} seconds of being killed")
        return _ran(watching, run.end(), tells_start=backend.tells_start)


class _Watch:
    def __init__(
        self,
        run: Started,
        request: Request,
        closed: threading.Event,
        output: dict[int, bytearray],
        started_s: float,
    ) -> None:
        self.request = request
        self.output = output  # by descriptor: standard output, then standard error
        self.started_s = started_s
        self.killed_for: Limit | None = None
        self.wall_s = 0.0
        self._run = run
        self._closed = closed
        self._killed_s = float("inf")
        self._poll = select.poll()
        for descriptor in (run.fileno(), *output):
            self._poll.register(descriptor, select.POLLIN)

    def until_end(self) -> bool:
        """Watch until the run has ended; False when it does not end though it was killed."""
        while True:
            ready = [descriptor for descriptor, _ in self._poll.poll(_TICK_MS)]
            self.wall_s = time.monotonic() - self.started_s
            for descriptor in self.output:
                if descriptor in ready or self._run.fileno() in ready:
                    self._read(descriptor)
            if self._run.fileno() in ready:
                return True
            if self._closed.is_set() or self.request.cancelled.is_set():
                raise WorkerLostError("the run was cancelled")
            if self.killed_for is None and self.wall_s > self.request.wall_s:
                self._kill("wall")
            if time.monotonic() > self._killed_s + _END_S:
                return False

    def _kill(self, limit: Limit) -> None:
        if self.killed_for is None:
            self.killed_for, self._killed_s = limit, time.monotonic()
            self._run.kill()

    def _read(self, descriptor: int) -> None:
        """Read what there is, but no more than one byte above the limit."""
        kept = self.output[descriptor]
        most = self.request.output_bytes + len(STARTED)
        try:
            while len(kept) <= most:
                chunk = os.read(descriptor, min(_CHUNK_BYTES, most + 1 - len(kept)))
                if not chunk:
                    self._forget(descriptor)
                    return
                kept += chunk
        except BlockingIOError:
            return
        self._forget(descriptor)
        self._kill("output")

    def _forget(self, descriptor: int) -> None:
        """Stop to poll a descriptor; reading it again is harmless."""
        try:
            self._poll.unregister(descriptor)
        except KeyError:
            return


def _ran(watch: _Watch, end: End, *, tells_start: bool) -> Ran:
    stdout, stderr = (bytes(data) for data in watch.output.values())
    if end.problem is not None:
        raise WorkerLostError(f"the sandbox could not run the code: {end.problem}")
    if tells_start:
        before, mark, stderr = stderr.partition(STARTED)
        if not mark:
            raise WorkerLostError(f"the sandbox could not run the code: {before.decode(errors='replace')[-1000:]}")
    limit = watch.killed_for or end.limit or _limit_of(watch.request, end)
    if limit == "wall" and (end.busy_s is None or end.busy_s > watch.request.wall_s / 2):
        raise WorkerLostError(f"a run took longer than {watch.request.wall_s:g} wall seconds without being asleep")
    if limit is None and end.exit_status == -signal.SIGKILL:
        raise WorkerLostError("a run was killed from outside, by want of memory perhaps")
    kept = watch.request.output_bytes
    return Ran(
        stdout=stdout[:kept].decode(errors="replace"),
        stderr=stderr[:kept].decode(errors="replace"),
        exit_status=end.exit_status,
        limit=limit,
        cpu_s=end.cpu_s,
        wall_s=watch.wall_s,
    )


def _limit_of(request: Request, end: End) -> Limit | None:
    if end.exit_status == -signal.SIGXCPU or (end.exit_status == -signal.SIGKILL and end.cpu_s >= request.cpu_s):
        return "cpu"
    limits: dict[int, Limit] = {
        OUT_OF["memory"]: "memory",
        OUT_OF["processes"]: "processes",
        OUT_OF["disk"]: "disk",
    }
    return limits.get(end.exit_status)
