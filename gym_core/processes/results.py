"""Results: what model-written code left, and which limit it met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Limit = Literal["cpu", "wall", "memory", "output", "processes", "disk"]
"""What a run can use up: its CPU seconds, its wall seconds while asleep, and the rest as it says."""


@dataclass(frozen=True)
class Ran:
    """What a run left; the limits it met and its exceptions are the code's fault.

    Attributes:
        stdout: What it wrote to standard output, at most `output_bytes` of it.
        stderr: The same of standard error, with the traceback of an exception.
        exit_status: 0 when all went well, 1 after an exception, negative for a signal, or what the code chose.
        limit: What it used up, if anything. "memory", "processes" and "disk" are told apart by the exception that the
            code let through, so a program can claim them; it never gains by that.
        cpu_s: CPU seconds it used.
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
