"""The last steps of a run in its own process: limits, files, and the code. Needs the standard library only."""

import atexit
import errno
import importlib
import json
import math
import os
import resource
import sys
import threading
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

OUT_OF = {"memory": 101, "processes": 102, "disk": 103}
"""Exit statuses of code that raised because of a limit."""

STARTED = b"sandbox: started\n"
"""What `main` writes to standard error last before the code runs; where it is missing, the code is not at fault."""

_STDERR = ("stderr", 2, "w", "backslashreplace")
_OPEN_FILES = 128
_MAPPED_BYTES = 256 << 20  # by the interpreter and its modules, where /proc does not tell


def read_header() -> dict[str, Any]:
    """Read the head of standard input, and no byte more: the rest is the code's own input."""
    size = int.from_bytes(_read(8), "big")
    header: dict[str, Any] = json.loads(_read(size))
    return header


def set_limits(header: dict[str, Any], mapped_bytes: int) -> None:
    """Set the limits of this process and of each it will start."""
    cpu_s = math.ceil(header["cpu_s"])  # the kernel counts whole seconds
    limits = {
        resource.RLIMIT_CPU: (cpu_s, cpu_s + 1),
        resource.RLIMIT_AS: (mapped_bytes + header["memory_bytes"],) * 2,
        resource.RLIMIT_NPROC: (header["processes"],) * 2,
        resource.RLIMIT_FSIZE: (header["disk_bytes"],) * 2,
        resource.RLIMIT_NOFILE: (_OPEN_FILES,) * 2,
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_MEMLOCK: (0, 0),
        resource.RLIMIT_MSGQUEUE: (0, 0),
    }
    for name, limit in limits.items():
        resource.setrlimit(name, limit)


def play(header: dict[str, Any]) -> NoReturn:
    """Write the files into the current directory, run the code as a program there, and end this process."""
    status = 1
    try:
        _open_standard_streams()
        for name, text in header["files"].items():
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        status = _execute(header["code"])
    finally:
        os._exit(status)


def _execute(code: str) -> int:
    main = types.ModuleType("__main__")
    sys.modules["__main__"], sys.argv = main, ["main.py"]
    sys.path.insert(0, os.getcwd())
    status = 0
    try:
        exec(compile(code, "main.py", "exec"), main.__dict__)
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
    except SystemExit as error:
        status = _exit_status(error.code)
    except BaseException as error:
        status = _out_of(error) or 1
        own_frame = error.__traceback__
        traceback.print_exception(error.with_traceback(own_frame.tb_next if own_frame else None))
    atexit._run_exitfuncs()  # a usual place for fast programs to write their output
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _exit_status(code: object) -> int:
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    print(code, file=sys.stderr)
    return 1


def _out_of(error: BaseException) -> int | None:
    if isinstance(error, MemoryError):
        return OUT_OF["memory"]
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EAGAIN or "can't start new thread" in error.args:
        return OUT_OF["processes"]
    return OUT_OF["disk"] if number in (errno.ENOSPC, errno.EFBIG) else None


def _open_standard_streams() -> None:
    """Open them anew, for the zygote's have buffers of their own."""
    for name, number, mode, errors in (("stdin", 0, "r", "strict"), ("stdout", 1, "w", "strict"), _STDERR):
        stream = open(number, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115  # for all the run
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _read(size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = os.read(0, size - len(data))
        if not chunk:
            os._exit(1)  # the caller is gone
        data += chunk
    return data


def main(seal: Callable[[], None]) -> NoReturn:
    """Run in a process that a program has isolated and that has imported nothing yet."""
    header = read_header()
    for name in header["modules"]:
        importlib.import_module(name)
    statm = Path("/proc/self/statm")
    mapped_bytes = int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else _MAPPED_BYTES
    set_limits(header, mapped_bytes)
    seal()
    os.write(2, STARTED)
    play(header)
