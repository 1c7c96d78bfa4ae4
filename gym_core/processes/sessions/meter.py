"""Meters: the usage of a session's processes, seen from outside."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from gym_core.processes.kernel import PsUsage, Usage, usage_of

_MOST_SAMPLED_S = 0.1  # by one look, as `Usage` has it
_LEAST_S = 1.0


class Meter:
    """The usage of one command or cell and the processes below it; in a container it is unknown.

    Args:
        server: Process of the box's server; None in a container.

    Attributes:
        cpu_s: CPU seconds used since the first look.
        slept_s: Seconds since then in which none of its processes ran or waited for a core or a disk.
        watched_s: Seconds since then, without gaps between looks.
    """

    def __init__(self, server: int | None) -> None:
        self.cpu_s = self.slept_s = self.watched_s = 0.0
        self._looked_s = 0.0
        self._server = server
        self._usage: Usage | PsUsage | None = None
        self._before_cpu_s = 0.0

    @property
    def was_kept_waiting(self) -> bool:
        """Whether it neither slept nor had a core for most of the time, as far as known."""
        return self.watched_s > _LEAST_S and max(self.cpu_s, self.slept_s) < self.watched_s / 2

    def look(self, inner: int | None) -> None:
        """Update the figures.

        Args:
            inner: Process, by its id in the box; None if it is not known yet.
        """
        if self._usage is None:
            pid = _outer(self._server, inner) if self._server and inner else None
            if pid is None:
                return
            self._usage = usage_of(pid)
            self._usage.look()
            self._before_cpu_s = self._usage.cpu_s  # of processes that earlier cells have started
            self._looked_s = time.monotonic()
        now_s = time.monotonic()
        self.watched_s += min(now_s - self._looked_s, _MOST_SAMPLED_S)
        self._looked_s = now_s
        self._usage.look()
        self.cpu_s, self.slept_s = self._usage.cpu_s - self._before_cpu_s, self._usage.slept_s


def _outer(server: int, inner: int) -> int | None:
    """The process id, outside the box, of a process that its server has started; None if it has ended."""
    with suppress(OSError):  # the server has ended
        children = Path(f"/proc/{server}/task/{server}/children").read_text(encoding="ascii").split()
        return next((int(child) for child in children if _inner(child) == inner), None)
    return None


def _inner(pid: str) -> int | None:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return None
