"""Usage by the program ps(1), for systems without /proc."""

from __future__ import annotations

import os
import subprocess
import time

_EVERY_S = 1.0


class PsUsage:
    """The same as `Usage`, to the second."""

    def __init__(self, pid: int) -> None:
        self.cpu_s = 0.0
        self.slept_s = 0.0
        self.disk_s = 0.0  # not told by ps
        self._root = pid
        self._before_s = _tree(pid)[0]
        self._looked_s = time.monotonic()

    def look(self) -> None:
        """Update the figures, at most once per second."""
        now_s = time.monotonic()
        if now_s - self._looked_s < _EVERY_S:
            return
        total_s, is_awake = _tree(self._root)
        self.cpu_s = max(self.cpu_s, total_s - self._before_s)
        if not is_awake:
            self.slept_s += now_s - self._looked_s
        self._looked_s = now_s

    def exceeds_memory(self, limit_bytes: float) -> bool:
        """Never: ps does not tell what processes share."""
        return False


def _tree(root: int) -> tuple[float, bool]:
    """CPU seconds of the living processes of a tree, and whether any of them runs or waits for a core or a disk."""
    columns = ["-o", "pid=", "-o", "ppid=", "-o", "stat=", "-o", "time="]
    command = ["ps", "-A", *columns]
    # Without a list, the processes would seem to be asleep.
    listed = subprocess.run(command, capture_output=True, check=True, text=True, env={**os.environ, "LC_ALL": "C"})
    processes = [
        (int(pid), int(parent), state, spent)
        for pid, parent, state, spent in map(str.split, listed.stdout.splitlines())
    ]
    tree = {root}
    while new := {pid for pid, parent, _, _ in processes if parent in tree} - tree:
        tree |= new
    members = [(state, spent) for pid, _, state, spent in processes if pid in tree]
    return sum(_seconds(spent) for _, spent in members), any(state[0] in "RDU" for state, _ in members)


def _seconds(spent: str) -> float:
    """The seconds in "[[days-]hours:]minutes:seconds"."""
    days, _, clock = spent.rpartition("-")
    total_s = 0.0
    for part in clock.split(":"):
        total_s = total_s * 60 + float(part)
    return total_s + 86400 * int(days or 0)
