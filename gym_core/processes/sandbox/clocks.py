"""Clocks: the processor time that processes have used or waited for."""

import os
import time
from contextlib import suppress


def cpu_s(pid: int) -> float:
    """CPU seconds of a process, by the clock that clock_getcpuclockid(3) names; 0 when it has just ended."""
    with suppress(OSError):
        return time.clock_gettime((~pid << 3) | 2)
    return 0.0


def busy_s(proc: int | None, pidfd: int) -> float | None:
    """Seconds that a process and those it started ran or waited for a core; None where the kernel does not tell."""
    proc = os.open("/proc", os.O_RDONLY) if proc is None else proc
    try:
        info = _read(proc, f"self/fdinfo/{pidfd}")
        tree = {next(line.split()[1] for line in info.splitlines() if line.startswith("Pid:"))}
        parents = {pid: _parent(proc, pid) for pid in os.listdir(proc) if pid.isdigit()}
        while new := {pid for pid, parent in parents.items() if parent in tree} - tree:
            tree |= new
        return sum(_scheduled_s(proc, pid) for pid in tree)
    except OSError:
        return None


def _parent(proc: int, pid: str) -> str | None:
    with suppress(OSError):
        return _read(proc, f"{pid}/stat").rpartition(")")[2].split()[1]
    return None


def _scheduled_s(proc: int, pid: str) -> float:
    total_ns = 0
    directory = os.open(f"{pid}/task", os.O_RDONLY, dir_fd=proc)
    for thread in os.listdir(directory):
        running_ns, waiting_ns, _ = _read(directory, f"{thread}/schedstat").split()
        total_ns += int(running_ns) + int(waiting_ns)
    os.close(directory)
    return total_ns / 1e9


def _read(directory: int, path: str) -> str:
    with open(os.open(path, os.O_RDONLY, dir_fd=directory), encoding="utf-8", errors="replace") as file:
        return file.read()
