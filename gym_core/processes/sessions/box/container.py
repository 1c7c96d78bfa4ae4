"""The first process of a container, which serves a box there."""

import ctypes
import importlib
import json
import os
import sys
from typing import NoReturn

from gym_core.processes.kernel import (
    drop_capabilities,
    filter_system_calls,
    limit_kernel_memory,
    mapped_bytes,
    set_limits,
    system_call_filter,
)
from gym_core.processes.sessions.box.server import serve


def main() -> NoReturn:
    """Serve by standard input and output, as the first process of a container."""
    settings = json.loads(sys.argv[2])
    for name in settings["modules"]:
        importlib.import_module(name)
    _forget_command_line()
    descriptors = [os.dup(0), os.dup(1)]
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    set_limits(settings["limits"], mapped_bytes())
    limit_kernel_memory()
    drop_capabilities()
    filter_system_calls(system_call_filter())
    serve(settings, descriptors)


def _forget_command_line() -> None:
    """Replace the command line by a short one for process lists; see proc_pid_stat(5)."""
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, b"sandbox", min(7, end - start))
