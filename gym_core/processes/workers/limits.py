"""Limits of a call, and who is to blame when they are used up."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from gym_core.errors import WorkerHungError, WorkerLostError
from gym_core.processes.kernel import usage_of

PATIENCE = 12
"""Factor by which the wall seconds of a call may exceed its CPU and sleep seconds together."""


@dataclass
class Call:
    """A function to run, its limits, and whether the caller still waits."""

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
        """Raise WorkerLostError if the caller no longer waits."""
        if self.cancelled or self.closed.is_set():
            raise WorkerLostError(f"{self.function} was cancelled")


class Limits:
    """The limits of a call that starts now, in the process of a worker."""

    def __init__(self, call: Call, pid: int) -> None:
        self._call = call
        self._started_s = time.monotonic()
        self._usage = usage_of(pid)

    def check(self) -> None:
        """Raise WorkerHungError or WorkerLostError if a limit is met or nobody waits; call it regularly."""
        call = self._call
        call.check_wanted()
        self._usage.look()
        if self._usage.cpu_s > call.cpu_s:
            raise WorkerHungError(f"{call.function} used more than {call.cpu_s:g} CPU seconds")
        if self._usage.slept_s > call.sleep_s:
            raise WorkerHungError(f"{call.function} slept for more than {call.sleep_s:g} seconds")
        taken_s = time.monotonic() - self._started_s
        if taken_s > PATIENCE * (call.cpu_s + call.sleep_s):
            raise WorkerLostError(f"the machine is too slow: {call.function} took {taken_s:.0f} seconds")
