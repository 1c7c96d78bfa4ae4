"""Limits: what a call may use, and whose fault it is when that is used up."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gym_core.errors import WorkerHungError, WorkerLostError
from gym_core.processes.sandbox import clocks

PATIENCE = 12
"""How many times its CPU seconds and its sleep a call may take in wall seconds."""

_MOST_SAMPLED_S = 0.1
"""What one look at a process says at most: this one may have been kept from looking."""


@dataclass
class Call:
    """A function to run, its limits, and whether anybody waits for it."""

    function: str
    arguments: bytes
    cpu_s: float
    sleep_s: float
    closed: threading.Event
    cancelled: bool = False

    @property
    def module(self) -> str:
        """The module of the function."""
        return self.function.partition(":")[0]

    def check_wanted(self) -> None:
        """Raise WorkerLostError when nobody waits."""
        if self.cancelled or self.closed.is_set():
            raise WorkerLostError(f"{self.function} was cancelled")


class Limits:
    """The limits of a call that starts now, in the process of a worker."""

    def __init__(self, call: Call, pid: int) -> None:
        self._call = call
        self._pid = pid
        self._started_s = time.monotonic()
        self._started_cpu_s = clocks.cpu_s(pid)
        self._checked_s = self._started_s
        self._slept_s = 0.0

    def check(self) -> None:
        """Raise WorkerHungError or WorkerLostError when a limit is met or nobody waits; call it now and then."""
        call = self._call
        call.check_wanted()
        now_s = time.monotonic()
        if clocks.cpu_s(self._pid) - self._started_cpu_s > call.cpu_s:
            raise WorkerHungError(f"{call.function} used more than {call.cpu_s:g} CPU seconds")
        if _is_asleep(self._pid):
            self._slept_s += min(now_s - self._checked_s, _MOST_SAMPLED_S)
        if self._slept_s > call.sleep_s:
            raise WorkerHungError(f"{call.function} slept for more than {call.sleep_s:g} seconds")
        if now_s - self._started_s > PATIENCE * (call.cpu_s + call.sleep_s):
            raise WorkerLostError(
                f"the machine is too slow: {call.function} took {now_s - self._started_s:.0f} seconds"
            )
        self._checked_s = now_s


def _is_asleep(pid: int) -> bool:
    """Whether the main thread of a process neither runs, nor waits for a core or a disk; see proc_pid_stat(5)."""
    with suppress(OSError):  # it has just ended
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return stat.rpartition(")")[2].split()[0] not in "RD"
    return False
