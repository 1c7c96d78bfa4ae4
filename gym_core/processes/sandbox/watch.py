"""The watch over a run: its output while it is produced, its wall time, and how it ended."""

from __future__ import annotations

import os
import random
import select
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from gym_core.errors import WorkerLostError
from gym_core.processes.kernel import PsUsage, Usage, sealed_file, usage_of
from gym_core.processes.results import Limit, Ran
from gym_core.processes.sandbox.backends import Backend, Started
from gym_core.processes.sandbox.child import OUT_OF, STARTED
from gym_core.processes.sandbox.slots import Slot
from gym_core.processes.zygote import End

_OUT_OF: dict[int, Limit] = {status: name for name, status in OUT_OF.items()}
_SHORTEST_S, _LONGEST_S = 0.012, 0.028  # between two looks at a run
_chance = random.SystemRandom()
_DOZE_S = 0.2  # a run that slept for that long is asleep, one that used as many CPU seconds is awake
_END_S = 30.0  # for a killed run to end
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Request:
    """The input of a run and its limits.

    Attributes:
        stdin: Header for `child.read_header`, and the code's own input.
        limits: Limits that its process enforces.
        sleep_s: Seconds that it may be asleep.
        wall_s: Seconds that it may take.
        output_bytes: Most bytes for each of its two streams.
        is_call: Whether the run is over once it has closed its standard output, as a call does after its answer.
        cancelled: Event that is set when the caller no longer waits.
    """

    stdin: bytes
    limits: Mapping[str, float]
    sleep_s: float
    wall_s: float
    output_bytes: int
    is_call: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event)


def watch_program(backend: Backend, request: Request, closed: threading.Event, slot: Slot) -> Ran:
    """Start a run and watch it to its end, in the calling thread.

    Args:
        backend: Back end that starts it.
        request: Request to run.
        closed: Event that is set when the sandbox is closed.
        slot: Slot, which is passed on while the run is asleep.

    Raises:
        WorkerLostError: The run was lost, or the machine is too slow.
    """
    with ExitStack() as stack:
        stdin = sealed_file(request.stdin)
        stack.callback(os.close, stdin)
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        for descriptor in (out, err):
            os.set_blocking(descriptor, False)
            stack.callback(os.close, descriptor)
        try:
            run = backend.start(stdin, out_end, err_end, limits=request.limits)
        finally:
            os.close(out_end)
            os.close(err_end)
        stack.callback(run.close)
        watching = _Watch(run, request, closed, {out: bytearray(), err: bytearray()}, slot)
        if not watching.until_end():
            backend.close()
            raise WorkerLostError(f"a run did not end within {_END_S:g} seconds of being killed")
        # The end of a large process takes milliseconds, in which an answer need not wait.
        end = End() if watching.has_answered else run.end()
        return _ran(watching, end, tells_start=backend.tells_start)


class _Watch:
    def __init__(
        self,
        run: Started,
        request: Request,
        closed: threading.Event,
        output: dict[int, bytearray],
        slot: Slot,
    ) -> None:
        self.request = request
        self.output = output  # by descriptor: standard output, then standard error
        self.killed_for: Limit | None = None
        self.wall_s = 0.0
        self.has_answered = False
        self.usage = None if run.pid is None else usage_of(run.pid)
        self._run = run
        self._closed = closed
        self._slot = slot
        self._started_s = time.monotonic()
        self._left = (0.0, 0.0)  # seconds slept and CPU seconds when it last left or took its slot
        self._killed_s = float("inf")
        self._poll = select.poll()
        for descriptor in (run.fileno(), *output):
            self._poll.register(descriptor, select.POLLIN)

    @property
    def was_asleep(self) -> bool:
        """Whether it slept too long, or waited for anything but a core for half of its wall seconds."""
        if self.usage is None:
            return False
        waited_s = self.usage.slept_s + self.usage.disk_s  # a program can keep a disk busy without end
        return self.usage.slept_s > self.request.sleep_s or waited_s > self.request.wall_s / 2

    def until_end(self) -> bool:
        """Watch until the run has ended, or a call has answered; False if it does not end although it was killed."""
        look_s = 0.0
        while True:
            wait_s = max(0.0, look_s - time.monotonic())
            ready = [descriptor for descriptor, _ in self._poll.poll(1000 * wait_s)]
            self.wall_s = time.monotonic() - self._started_s
            for descriptor in self.output:
                if descriptor in ready or self._run.fileno() in ready:
                    self._read(descriptor)
            if self.has_answered:
                for descriptor in self.output:
                    self._read(descriptor)
            if self._run.fileno() in ready or self.has_answered:
                return True
            if self._closed.is_set() or self.request.cancelled.is_set():
                raise WorkerLostError("the run was cancelled")
            if time.monotonic() < look_s:
                continue  # looks must not follow its output, or a run could be awake just for them
            look_s = time.monotonic() + _chance.uniform(_SHORTEST_S, _LONGEST_S)
            if self.usage:
                self.usage.look()
                self._leave_or_take_slot(self.usage)
            self._check_limits()
            if time.monotonic() > self._killed_s + _END_S:
                return False

    def _leave_or_take_slot(self, usage: Usage | PsUsage) -> None:
        """Let another run go ahead while this one is asleep."""
        slept_s, cpu_s = self._left
        if usage.slept_s > slept_s + _DOZE_S:
            self._slot.leave()
        elif usage.cpu_s > cpu_s + _DOZE_S:
            self._slot.take_again()
        else:
            return
        self._left = usage.slept_s, usage.cpu_s

    def _check_limits(self) -> None:
        request = self.request
        if self.usage and self.usage.cpu_s > request.limits["cpu_s"]:
            self._kill("cpu")
        elif self.usage and self.usage.exceeds_memory(request.limits["memory_bytes"]):
            self._kill("memory")
        elif self.wall_s > request.wall_s or (self.usage and self.usage.slept_s > request.sleep_s):
            self._kill("wall")

    def _kill(self, limit: Limit) -> None:
        if self.killed_for is None:
            self.killed_for, self._killed_s = limit, time.monotonic()
            self._run.kill()

    def _read(self, descriptor: int) -> None:
        """Read what is available, but at most one byte beyond the limit."""
        kept = self.output[descriptor]
        most = self.request.output_bytes + len(STARTED)
        try:
            while len(kept) <= most:
                chunk = os.read(descriptor, min(_CHUNK_BYTES, most + 1 - len(kept)))
                if not chunk:
                    self._forget(descriptor)
                    is_answer = descriptor == next(iter(self.output)) and len(kept) > 0
                    self.has_answered = self.has_answered or (self.request.is_call and is_answer)
                    return
                kept += chunk
        except BlockingIOError:
            return
        self._forget(descriptor)
        self._kill("output")

    def _forget(self, descriptor: int) -> None:
        """Stop polling a descriptor; reading it again is harmless."""
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
    limit = watch.killed_for or end.limit or _OUT_OF.get(end.exit_status)
    if limit == "wall" and not watch.was_asleep:
        raise WorkerLostError(f"a run took longer than {watch.request.wall_s:g} wall seconds without being asleep")
    if limit is None and end.is_lost:
        raise WorkerLostError("a run was killed from outside, or by the kernel for lack of memory")
    kept = watch.request.output_bytes
    return Ran(
        stdout=stdout[:kept].decode(errors="replace"),
        stderr=stderr[:kept].decode(errors="replace"),
        exit_status=end.exit_status,
        limit=limit,
        cpu_s=max(end.cpu_s, watch.usage.cpu_s if watch.usage else 0.0),
        wall_s=watch.wall_s,
    )
