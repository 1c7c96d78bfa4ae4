"""The memory of a tree of processes, in which shared pages are counted once."""

import os
import time
from collections.abc import Collection
from contextlib import suppress

_EVERY_S = 0.2
_PARTS = ("Pss_Anon:", "Pss_Shmem:")


class Memory:
    """The memory of a tree of processes, checked now and then.

    Args:
        pid: First process, which has just started; its present memory is not counted.
    """

    def __init__(self, pid: int) -> None:
        self._inherited_bytes = _resident_bytes(pid)
        self._looked_s = 0.0

    def exceeds(self, limit_bytes: float, pids: Collection[int]) -> bool:
        """Whether several processes together hold more than a limit; the costly exact count is made rarely."""
        most_bytes, now_s = limit_bytes + self._inherited_bytes, time.monotonic()
        if len(pids) < 2 or sum(map(_resident_bytes, pids)) <= most_bytes or now_s - self._looked_s < _EVERY_S:
            return False
        self._looked_s = now_s
        return sum(map(_proportional_bytes, pids)) > most_bytes


def _resident_bytes(pid: int) -> int:
    """Memory of a process that belongs to no file, shared pages included; see proc_pid_statm(5)."""
    with suppress(OSError, ValueError), open(f"/proc/{pid}/statm", encoding="ascii") as file:
        _, resident, files, *_ = map(int, file.read().split())
        return (resident - files) * os.sysconf("SC_PAGE_SIZE")
    return 0  # it has just ended


def _proportional_bytes(pid: int) -> int:
    """The same, with only the process's part of shared pages, unless the process hides how much that is."""
    with suppress(OSError), open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return sum(int(line.split()[1]) << 10 for line in file if line.startswith(_PARTS))
    return _resident_bytes(pid)  # by PR_SET_DUMPABLE, it can hide that from all but root
