"""Limits of a process that the kernel enforces; processes it starts inherit them."""

import math
import os
import sys
from collections.abc import Mapping

_MAPPED_BYTES = 256 << 20  # by the interpreter and its modules, if /proc is not available


def mapped_bytes(proc: int | None = None) -> int:
    """Address space that this process has mapped already.

    Args:
        proc: Descriptor of /proc, if the path does not lead there.
    """
    path = "/proc/self/statm" if proc is None else "self/statm"
    try:
        with open(os.open(path, os.O_RDONLY, dir_fd=proc), encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return _MAPPED_BYTES


def set_limits(limits: Mapping[str, float], mapped: int) -> None:
    """Limit this process and every process it will start.

    Args:
        limits: Limits, any of `cpu_s`, `memory_bytes` (address space beyond what is already mapped), `processes`,
            `disk_bytes` (size of a file) and `open_files`. Others are not limited, except core dumps.
        mapped: Bytes of address space that are already mapped.
    """
    import resource  # Windows has none, and imports this module

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if "cpu_s" in limits:
        cpu_s = math.ceil(limits["cpu_s"])  # the kernel counts whole seconds
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    if "memory_bytes" in limits and sys.platform != "darwin":  # which refuses it
        resource.setrlimit(resource.RLIMIT_AS, (mapped + int(limits["memory_bytes"]),) * 2)
    kernel_names = {"processes": "RLIMIT_NPROC", "disk_bytes": "RLIMIT_FSIZE", "open_files": "RLIMIT_NOFILE"}
    for name, kernel_name in kernel_names.items():
        if name in limits:
            resource.setrlimit(getattr(resource, kernel_name), (int(limits[name]),) * 2)


def limit_kernel_memory() -> None:
    """Deny this process kernel memory that no other limit counts."""
    import resource

    for name, most in {"RLIMIT_MEMLOCK": 0, "RLIMIT_MSGQUEUE": 0, "RLIMIT_SIGPENDING": 1024}.items():
        if hasattr(resource, name):  # only Linux has it
            resource.setrlimit(getattr(resource, name), (most, most))
