"""What a command or a cell left, from what the server of the box tells."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any

from gym_core.processes.results import Ran
from gym_core.processes.sessions.connection import SessionOver


@dataclass(frozen=True)
class Cell(Ran):
    """What a cell left, as in a notebook.

    Attributes:
        value: The text of the value of its last line, by `repr`; None where that is no expression, or is None.
    """

    value: str | None = None


def cell_of(head: dict[str, Any], data: bytes) -> Cell:
    """What a server tells of a command or a cell."""
    out, err = head["out"], head["out"] + head["err"]
    return Cell(
        stdout=data[:out].decode(errors="replace"),
        stderr=data[out:err].decode(errors="replace"),
        exit_status=head["exit_status"],
        limit=head["limit"],
        cpu_s=head["cpu_s"],
        wall_s=head["wall_s"],
        value=data[err:].decode(errors="replace") if head["has_value"] else None,
    )


def unrun(over: SessionOver) -> Cell:
    """The result of what was not run, as the session is over."""
    return Cell("", f"sandbox: {over}\n", -signal.SIGKILL, over.limit, cpu_s=0.0, wall_s=0.0)
