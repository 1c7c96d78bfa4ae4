"""Results of model-written code: its output, and the limit it met, if any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Limit = Literal["cpu", "wall", "memory", "output", "processes", "disk"]
"""A limit of a run. "wall" counts seconds asleep; the others are what they say."""


@dataclass(frozen=True)
class Ran:
    """The result of a run; the code is to blame for limits it met and for its exceptions.

    Attributes:
        stdout: Standard output, at most `output_bytes` of it.
        stderr: Standard error, at most as much, with the traceback of an exception.
        exit_status: Exit status: 0 on success, 1 after an exception, negative for a signal, or the code's own.
        limit: Limit that the run met, if any. "memory", "processes" and "disk" are recognised by the exception that the
            code let through, so a program can claim them, but never gains by that.
        cpu_s: CPU seconds used.
        wall_s: Seconds from start to end.
    """

    stdout: str
    stderr: str
    exit_status: int
    limit: Limit | None
    cpu_s: float
    wall_s: float

    @property
    def ok(self) -> bool:
        """Whether it ran to its end, without an exception and within its limits."""
        return self.exit_status == 0 and self.limit is None
