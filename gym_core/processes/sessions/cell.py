"""Results of commands and cells, from the answers of the server."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any

from gym_core.processes.results import Ran
from gym_core.processes.sessions.connection import SessionOver


@dataclass(frozen=True)
class Cell(Ran):
    """The result of a cell, as in a notebook.

    Attributes:
        value: `repr` of the value of the last line; None if that is not an expression, or is None.
    """

    value: str | None = None


def cell_of(head: dict[str, Any], data: bytes) -> Cell:
    """Read the result of a command or a cell from a server's answer."""
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
    """The result of a command that was not run because the session is over."""
    return Cell("", f"sandbox: {over}\n", -signal.SIGKILL, over.limit, cpu_s=0.0, wall_s=0.0)
