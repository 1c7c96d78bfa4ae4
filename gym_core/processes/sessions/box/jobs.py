"""Jobs: commands and cells that a caller waits for, their limits, and their results."""

import signal
import time
from dataclasses import dataclass
from typing import Any

from gym_core.processes.kernel import Usage
from gym_core.processes.sessions.box.interpreter import OUT_OF_MEMORY
from gym_core.processes.sessions.box.processes import Process

GONE_S = 2.0
"""Seconds that killed processes may take to end."""

_LOOK_S = 0.1

CANCELLED = "cancelled"
"""The reason for killing a job whose caller no longer waits."""


@dataclass
class Job:
    """A command or a cell that a caller waits for.

    Attributes:
        killed_for: Limit that it met, or "cancelled" if the caller no longer waits.
        answer: Answer of the interpreter to a cell.
    """

    number: int
    process: Process
    is_cell: bool
    cpu_s: float
    wall_s: float
    output_bytes: int
    started_s: float
    used_cpu_s: float  # by all that had ended when it started
    sees_processes: bool  # the box has /proc
    notice: str = ""
    killed_for: str | None = None
    answer: bytes | None = None
    _started_cpu_s: float = 0.0
    _killed_s: float = 0.0
    _usage: Usage | None = None
    _other_cpu_s: float = 0.0  # of processes that earlier cells have started
    _looked_s: float = 0.0

    def __post_init__(self) -> None:
        self._started_cpu_s, self._looked_s = self.process.cpu_s(), time.monotonic()

    def kill(self, reason: str) -> None:
        """Kill its processes; it is then soon done."""
        if self.killed_for is None:
            self.killed_for, self._killed_s = reason, time.monotonic()
        self.process.kill()

    def is_done(self) -> bool:
        """Whether it has ended, or was killed with its group; kills it if it has met a limit."""
        if self.killed_for:
            if time.monotonic() > self._killed_s + GONE_S and self.process.exit_status is not None:
                return True
            return self.process.is_gone()
        if self.process.exit_status is not None or self.answer is not None:
            return True
        if self.process.output.is_over(self.output_bytes):
            self.kill("output")
        elif time.monotonic() - self.started_s > self.wall_s:
            self.kill("wall")
        elif self._get_cpu_s() > self.cpu_s:
            self.kill("cpu")
        return False

    def result(self) -> tuple[dict[str, Any], bytes]:
        """The result: figures, then output, errors and value, one after the other."""
        process = self.process
        for descriptor in process.output.kept:
            process.output.read(descriptor, self.output_bytes)
        limit = self.killed_for or ("output" if process.output.is_over(self.output_bytes) else None)
        status, value = process.exit_status, b""
        if status is None:
            status, limit, value = _parse(self.answer or b"", limit)
        out, err = process.output.take(self.output_bytes)
        cpu_s = ended_cpu_s() - self.used_cpu_s + process.cpu_s() - self._started_cpu_s
        if limit is None and self._is_out_of_cpu(status, cpu_s):
            limit = "cpu"
        err += self.notice.encode()
        figures = {
            "cpu_s": max(cpu_s, 0.0),
            "wall_s": time.monotonic() - self.started_s,
            "out": len(out),
            "err": len(err),
        }
        head = {"id": self.number, "exit_status": status, "limit": limit, **figures}
        return {**head, "has_value": value.startswith(b"=")}, out + err + value[1:]

    def _get_cpu_s(self) -> float:
        """CPU seconds of its process, and of those below it if the box has /proc, as in a container.

        Otherwise the owner of the session measures those.
        """
        if self.sees_processes and time.monotonic() > self._looked_s + _LOOK_S:
            self._looked_s = time.monotonic()
            if self._usage is None:
                self._usage = Usage(self.process.pid)
                self._usage.look()
                self._other_cpu_s = self._usage.cpu_s
            self._usage.look()
        below_s = self._usage.cpu_s - self._other_cpu_s if self._usage else 0.0
        return max(below_s, self.process.cpu_s() - self._started_cpu_s)

    def _is_out_of_cpu(self, status: int, cpu_s: float) -> bool:
        """Whether the kernel killed it, or a process that a shell had started, for its CPU seconds."""
        by_signal = status in (-signal.SIGXCPU, 128 + signal.SIGXCPU)
        return by_signal or (not self.is_cell and cpu_s > self.cpu_s)


def ended_cpu_s() -> float:
    """CPU seconds of all processes that have ended in the box."""
    from resource import RUSAGE_CHILDREN, getrusage  # Windows has none, and imports this module

    usage = getrusage(RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _parse(answer: bytes, limit: str | None) -> tuple[int, str | None, bytes]:
    """Exit status, limit and value of a cell, even if it forged the interpreter's answer."""
    head, _, value = answer.partition(b":")
    digits = head.removeprefix(OUT_OF_MEMORY)
    status = int(digits) if digits.isdigit() and len(digits) < 4 else 1
    return status, limit or (None if digits == head else "memory"), value
