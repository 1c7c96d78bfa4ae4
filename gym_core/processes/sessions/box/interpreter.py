"""The interpreter of a box: how the server asks it, cell by cell, and its own process."""

import ast
import errno
import linecache
import os
import socket
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any, NoReturn

from gym_core.processes.sessions.box.frames import CELL_BYTES
from gym_core.processes.sessions.box.poller import Poller
from gym_core.processes.sessions.box.processes import Process, start_fork

VALUE_BYTES = 64 << 10
"""Most characters of a value's text; the rest is cut off."""

OUT_OF_MEMORY = b"M"
"""The start of an answer, before the exit status, a colon, and "=" with the value's text if there is a value."""

ENDED = "sandbox: the interpreter has ended; its variables are gone\n"
_NEW = "sandbox: the interpreter had ended; this is a new one, earlier variables are gone\n"


class Interpreter:
    """The interpreter, forked by the first cell with the modules of the server.

    Args:
        poller: Poller that waits for its answers.
        answered: Callback for its answers.

    Attributes:
        process: Its process; None if none is running.
    """

    def __init__(self, poller: Poller, answered: Callable[[bytes], None]) -> None:
        self.process: Process | None = None
        self._poller = poller
        self._answered = answered
        self._channel: socket.socket | None = None
        self._has_lost = False  # with variables, and nobody was told

    def ask(self, code: bytes) -> tuple[Process, str]:
        """Run a cell; return the process that does so, and a message, if any."""
        if self.process and self._channel:
            try:
                self._channel.send(b"\n" + code, socket.MSG_DONTWAIT)
                return self.process, ""
            except OSError:  # it does not read
                self.lose()
        notice = _NEW if self._has_lost else ""
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = start_fork(lambda: _live(theirs), theirs.fileno())
        self._has_lost = False
        self._poller.watch(self._channel.fileno(), self._hear)
        self._channel.send(b"\n" + code)
        return self.process, notice

    def lose(self, *, told: bool = False) -> None:
        """Kill it; the next cell has a new one.

        Args:
            told: Whether the caller is told.
        """
        if self.process and self._channel:
            self.process.kill()
            self._poller.leave(self._channel.fileno())
            self._channel.close()
            self.process = self._channel = None
            self._has_lost = True
        self._has_lost = self._has_lost and not told

    def _hear(self) -> None:
        """Read its answer; if it has hung up, its exit status will report its end."""
        assert self._channel
        try:
            answer = self._channel.recv(2 * CELL_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            answer = b""
        if answer:
            self._answered(answer)
        else:
            self.lose()


def _live(channel: socket.socket) -> NoReturn:
    """Run the cells that come by the channel, each after a byte that is not part of it, until it is closed."""
    _open_standard_streams()
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"], sys.argv = main, [""]
    sys.path.insert(0, os.getcwd())
    pid, number = os.getpid(), 0
    while code := channel.recv(2 * CELL_BYTES):
        number += 1
        answer = _run(code[1:].decode(errors="surrogatepass"), f"<cell {number}>", main.__dict__)
        if os.getpid() != pid:
            os._exit(0)  # the cell forked; only one of the two may answer
        channel.send(answer)
    os._exit(0)


def _run(code: str, name: str, names: dict[str, Any]) -> bytes:
    status, value = 0, None
    try:
        value = _evaluate(code, name, names)
    except SystemExit as error:
        status = _exit_status(error.code)
    except BaseException as error:
        status = -1 if _is_out_of_memory(error) else 1
        own_frame = error.__traceback__
        traceback.print_exception(error.with_traceback(_without_ours(own_frame)))
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)
    text = b"" if value is None else b"=" + value.encode(errors="backslashreplace")[:VALUE_BYTES]
    return (OUT_OF_MEMORY + b"1" if status == -1 else str(status).encode()) + b":" + text


def _evaluate(code: str, name: str, names: dict[str, Any]) -> str | None:
    """Run a cell; return the text of its last line's value, if that is an expression and not None."""
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    tree = ast.parse(code, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), names)
    if last is None:
        return None
    assert isinstance(last, ast.Expr)
    value = eval(compile(ast.Expression(last.value), name, "eval"), names)
    return None if value is None else repr(value)


def _without_ours(trace: types.TracebackType | None) -> types.TracebackType | None:
    while trace and trace.tb_frame.f_code.co_filename == _run.__code__.co_filename:
        trace = trace.tb_next
    return trace


def _exit_status(code: object) -> int:
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    print(code, file=sys.stderr)
    return 1


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def _flush(stream: Any) -> None:
    try:
        stream.flush()
    except (AttributeError, OSError, ValueError):  # the cell has replaced or closed it
        return


def _open_standard_streams() -> None:
    """Reopen the standard streams, since the server has its own."""
    for name, number, mode, errors in (
        ("stdin", 0, "r", "strict"),
        ("stdout", 1, "w", "backslashreplace"),
        ("stderr", 2, "w", "backslashreplace"),
    ):
        stream = open(number, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115  # for all its life
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
