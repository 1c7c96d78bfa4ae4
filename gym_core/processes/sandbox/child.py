"""The last steps of a run in its own process: writing files and running the code."""

import atexit
import errno
import importlib
import io
import json
import os
import sys
import threading
import traceback
import types
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NoReturn

from gym_core.processes.kernel import (
    drop_capabilities,
    filter_system_calls,
    limit_kernel_memory,
    mapped_bytes,
    set_limits,
    system_call_filter,
)

OUT_OF: dict[Literal["memory", "processes", "disk"], int] = {"memory": 101, "processes": 102, "disk": 103}
"""Exit statuses of code that raised because of a limit."""

STARTED = b"sandbox: started\n"
"""The last output of `main` to standard error before the code runs; if it is missing, the code is not to blame."""

_STDERR = ("stderr", 2, "w", "backslashreplace")


def inside_box(name: str) -> str:
    """The name of a file of a run, which must not lead out of its directory."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"a file of a run must have a relative path without '..', not {name!r}")
    return name


def encode_run(header: Mapping[str, Any], stdin: str) -> bytes:
    """The standard input of a run: its header, then the input of its code."""
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "big") + head + stdin.encode(errors="surrogatepass")


def read_header() -> dict[str, Any]:
    """Read the header from standard input, and not a byte more: the rest is the code's own input."""
    size = int.from_bytes(_read(8), "big")
    header: dict[str, Any] = json.loads(_read(size))
    return header


def play_forked(_: None, descriptors: list[int]) -> NoReturn:
    """Run the code in a process that a zygote has forked, isolated and limited.

    Args:
        descriptors: Descriptors of standard input, output and error.
    """
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    play(read_header())


def play(header: dict[str, Any]) -> NoReturn:
    """Write the files into the current directory, run the code as a program there, and end this process."""
    status = 1
    try:
        _open_standard_streams()
        status = _write(header["files"]) or _execute(header["code"])
    finally:
        os._exit(status)


def _write(files: Mapping[str, str]) -> int:
    """Write files; return 0, or an exit status if one of them can't be written."""
    for name, text in files.items():
        try:
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", errors="surrogatepass")
        except OSError as error:
            print(f"sandbox: can't write {name!r}: {error}", file=sys.stderr, flush=True)
            return _out_of(error) or 1
    return 0


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
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None and not getattr(stream, "closed", False):  # as the code may have left it
            stream.flush()
    for value in list(main.__dict__.values()):
        if isinstance(value, io.IOBase):  # Python would close it now, and ignore these errors
            with suppress(OSError, ValueError):
                value.flush()
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
    """Reopen the standard streams, since the zygote's have their own buffers."""
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


def main() -> NoReturn:
    """Run the code in a process that a program has isolated and that has imported nothing yet."""
    header = read_header()
    for name in header["modules"]:
        importlib.import_module(name)
    set_limits(header["limits"], mapped_bytes())
    limit_kernel_memory()
    drop_capabilities()
    filter_system_calls(system_call_filter())
    os.write(2, STARTED)
    play(header)
