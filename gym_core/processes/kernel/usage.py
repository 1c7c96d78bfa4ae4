"""Usage: CPU seconds and sleep of a process and everything it started, seen from another process."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import suppress

from gym_core.processes.kernel.memory import Memory
from gym_core.processes.kernel.ps import PsUsage

_LEAST_SAMPLED_S, _MOST_SAMPLED_S = 0.01, 0.1
"""Seconds that one look can account for: a shorter time says nothing, and in a longer one the observer itself may have
been kept from a core."""


def cpu_s(pid: int) -> float:
    """CPU seconds of a process, by the clock of clock_getcpuclockid(3); 0 if it has just ended."""
    with suppress(OSError):
        return time.clock_gettime((~pid << 3) | 2)
    return 0.0


def oom_kills() -> int | None:
    """Number of processes of this machine that the kernel has killed for lack of memory; None if it does not say."""
    for line in _read("/proc/vmstat").splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return None


class Usage:
    """The usage of a process and its descendants from now on; call `look` at least every few hundredths of a second.

    No clock of the kernel counts processes that come and go between two looks. So a process that is first seen running
    stands for those before it: the whole time since the last look counts as used, minus the share in which it waited
    for a core.

    Attributes:
        cpu_s: CPU seconds used by all of them.
        slept_s: Seconds in which none of them ran or waited for a core or a disk.
        disk_s: Seconds in which at least one of them waited for a disk, and none ran or waited for a core.
    """

    def __init__(self, pid: int) -> None:
        self.cpu_s = 0.0
        self.slept_s = 0.0
        self.disk_s = 0.0
        self._root = pid
        self._living = {pid}
        self._memory = Memory(pid)
        self._seen = {pid: cpu_s(pid)}  # CPU seconds by process, at the last look
        self._looked_s = time.monotonic()

    def look(self) -> None:
        """Update the figures."""
        now_s = time.monotonic()
        if now_s - self._looked_s < _LEAST_SAMPLED_S:
            return
        since_s, self._looked_s = min(now_s - self._looked_s, _MOST_SAMPLED_S), now_s
        states, self._living = set(), set()
        for pid, threads in _tree(self._root):
            total_s, before_s = cpu_s(pid), self._seen.get(pid, math.inf)
            used_s = total_s - before_s
            if used_s < 0:  # a new process, perhaps with the id of an old one
                used_s = max(total_s, since_s * max(map(_running_share, threads), default=0.0))
            states |= {"R"} if used_s > since_s / 2 else set(map(_state, threads))
            self._seen[pid] = total_s
            self._living.add(pid)
            self.cpu_s += used_s
        if not states & {"R", "D"}:
            self.slept_s += since_s
        elif "R" not in states:
            self.disk_s += since_s

    def exceeds_memory(self, limit_bytes: float) -> bool:
        """Whether the processes together hold more memory than a limit, beyond what the first one started with."""
        return self._memory.exceeds(limit_bytes, self._living)


def usage_of(pid: int) -> Usage | PsUsage:
    """The usage of a process, by the means of this system."""
    return Usage(pid) if os.path.exists("/proc/self/task") else PsUsage(pid)


def _tree(root: int) -> Iterator[tuple[int, list[str]]]:
    """The processes of a tree, each with the directories of its threads."""
    left = [root]
    while left:
        pid = left.pop()
        threads = []
        with suppress(OSError):  # it has just ended
            threads = [f"/proc/{pid}/task/{thread}" for thread in os.listdir(f"/proc/{pid}/task")]
        yield pid, threads
        for thread in threads:
            left += map(int, _read(f"{thread}/children").split())


def _state(thread: str) -> str:
    """The state of a thread: "R" if it runs or waits for a core, "D" if it waits for a disk; see proc_pid_stat(5)."""
    state = _read(f"{thread}/stat").rpartition(")")[2][1:2]
    # A parent in vfork(2) looks as if it were waiting for a disk.
    return "S" if state == "D" and _read(f"{thread}/children") else state


def _running_share(thread: str) -> float:
    """The share of its waking time in which a thread had a core; 0 if it is not running now."""
    if _state(thread) != "R":
        return 0.0
    ran_ns, waited_ns = map(int, (_read(f"{thread}/schedstat") or "1 0").split()[:2])
    return ran_ns / max(1, ran_ns + waited_ns)


def _read(path: str) -> str:
    """The text of a file; "" if it is gone because the process has just ended."""
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
    return ""
