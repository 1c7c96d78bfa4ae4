"""The session: a box of files and processes that lives as long as an episode, seen from its owner."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any, Self

from gym_core.errors import ToolError, WorkerLostError
from gym_core.processes.kernel import usage_of
from gym_core.processes.results import Limit, Ran
from gym_core.processes.sessions.box import CELL_BYTES, FILE_BYTES
from gym_core.processes.sessions.cell import Cell, cell_of, unrun
from gym_core.processes.sessions.connection import Answer, Connection, Server, SessionOver
from gym_core.processes.sessions.meter import Meter
from gym_core.processes.zygote import forget_in_forks

_START_S = 600.0  # for an image to be pulled
_ANSWER_S = 30.0  # for the server, in addition to the wall seconds of a command
_LOOK_S = 0.25
_MOST_COMMAND_BYTES = (128 << 10) - 1  # of one argument of a program; execve(2), MAX_ARG_STRLEN

Start = Callable[[int], Server]


class Session:
    """A box that keeps files, background processes and an interpreter's variables over the turns of an episode.

    `Sandbox.session` makes one. It is opened by `async with` or `open`, and belongs to the event loop in which it was
    opened. When it closes, or this process ends, all its processes are killed and its files are gone. A command that
    meets a limit is killed with its process group, and its result says so. Processes that it put into the background
    live on until the session ends, within the session's limits.

    Args:
        start: Function that starts the session's server, which talks through the given socket.
        put: Files that are there from the start, by path.
        cpu_s: CPU seconds of the whole session.
        memory_bytes: Memory of all its processes together, beyond what the server starts with.
    """

    def __init__(self, start: Start, put: Mapping[str, str | bytes], *, cpu_s: float, memory_bytes: int) -> None:
        self._start = start
        self._put = dict(put)
        self._cpu_s, self._memory_bytes = cpu_s, memory_bytes
        self._connection: Connection | None = None
        self._server: int | None = None  # its process; None in a container
        self._watching: asyncio.Task[None] | None = None
        self._cell = asyncio.Lock()
        forget_in_forks(self)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def open(self) -> Self:
        """Start the session and put its files there; `close` must follow.

        Raises:
            WorkerLostError: The session can't be isolated here, or its start failed.
            ValueError: A file can't be written to its path.
        """
        if self._connection:
            raise WorkerLostError("a session can be opened only once")
        ours, theirs = socket.socketpair()
        starting = asyncio.ensure_future(asyncio.to_thread(_start, self._start, theirs))
        try:
            server = await asyncio.shield(starting)
        except BaseException:
            ours.close()
            starting.add_done_callback(_close_server)
            raise
        self._connection, self._server = Connection(server, ours), server.pid
        try:
            await self._connection.open()
            await self._connection.ask({"do": "list", "path": "."}, b"", _START_S)
            if self._server:
                self._watching = asyncio.create_task(self._watch(self._connection, self._server))
            await asyncio.gather(*[self.write(path, data) for path, data in self._put.items()])
        except BaseException as error:
            await self.close()
            if isinstance(error, ToolError):
                raise ValueError(str(error)) from error
            raise
        return self

    async def close(self) -> None:
        """Kill everything and remove the box; pending calls are lost. It may be called more than once."""
        if self._watching:
            self._watching.cancel()
        if self._connection:
            await self._connection.close()

    def forget(self) -> None:
        """Leave the session to the process from which this one was forked."""
        self._connection = None

    async def exec(
        self, command: str, *, cpu_s: float = 10.0, wall_s: float = 60.0, output_bytes: int = 64 << 10
    ) -> Ran:
        """Run a command in a shell of its own; cancelling the call kills it.

        Files and background processes outlast it; the shell's variables and its current directory do not.

        Args:
            command: One or more lines for bash, or for sh if there is no bash.
            cpu_s: CPU seconds that it and the processes it starts may use.
            wall_s: Seconds that it may take.
            output_bytes: Most bytes that it may write to standard output, and to standard error.

        Raises:
            ToolError: The text can't be a command.
            WorkerLostError: The session is lost.
        """
        data = command.encode(errors="surrogatepass")
        if b"\0" in data or len(data) > _MOST_COMMAND_BYTES:
            raise ToolError(f"a command must have at most {_MOST_COMMAND_BYTES} bytes, and none that is zero")
        cell = await self._run("exec", data, cpu_s, wall_s, output_bytes)
        return Ran(cell.stdout, cell.stderr, cell.exit_status, cell.limit, cell.cpu_s, cell.wall_s)

    async def python(
        self, code: str, *, cpu_s: float = 10.0, wall_s: float = 60.0, output_bytes: int = 64 << 10
    ) -> Cell:
        """Run a cell in an interpreter that keeps its variables, one cell at a time.

        A cell that meets a limit or is cancelled ends the interpreter. The next cell has a new one, and its result says
        so.

        Args:
            code: Python source; if its last line is an expression, that is the cell's value.
            cpu_s: CPU seconds that the interpreter and the processes it starts may use for the cell.
            wall_s: Seconds that it may take.
            output_bytes: Most bytes that it may write to standard output, and to standard error.

        Raises:
            ToolError: The cell is too long.
            WorkerLostError: The session is lost.
        """
        data = code.encode(errors="surrogatepass")
        if len(data) >= CELL_BYTES:
            raise ToolError(f"a cell must have less than {CELL_BYTES} bytes, not {len(data)}")
        async with self._cell:
            return await self._run("python", data, cpu_s, wall_s, output_bytes)

    async def read(self, path: str) -> str:
        """Read the text of a file.

        Args:
            path: Path relative to the box, or absolute inside it.

        Raises:
            ToolError: There is no such file inside the box, or it is not text, or too large.
            WorkerLostError: The session is lost.
        """
        try:
            return (await self.read_bytes(path)).decode()
        except UnicodeDecodeError:
            raise ToolError(f"can't read {path!r}: it is not text in UTF-8") from None

    async def read_bytes(self, path: str) -> bytes:
        """Read the bytes of a file; raises the same as `read`."""
        _, data = await self._ask({"do": "read", "path": path})
        return data

    async def write(self, path: str, data: str | bytes) -> None:
        """Create a file or replace its content; missing directories are created.

        Raises:
            ToolError: The file can't be written, or does not fit.
            WorkerLostError: The session is lost.
        """
        content = data.encode(errors="surrogatepass") if isinstance(data, str) else data
        if len(content) > FILE_BYTES:
            raise ToolError(f"can't write {path!r}: a file must have at most {FILE_BYTES} bytes")
        await self._ask({"do": "write", "path": path}, content)

    async def list(self, path: str = ".") -> tuple[str, ...]:
        """List the names in a directory, sorted; those of directories end with a slash.

        Raises:
            ToolError: There is no such directory inside the box.
            WorkerLostError: The session is lost.
        """
        head, _ = await self._ask({"do": "list", "path": path})
        return tuple(head["names"])

    async def _run(self, do: str, body: bytes, cpu_s: float, wall_s: float, output_bytes: int) -> Cell:
        connection, meter = self._get_open(), Meter(self._server)
        request = {"do": do, "cpu_s": cpu_s, "wall_s": wall_s, "output_bytes": output_bytes}

        def look(process: int | None) -> Limit | None:
            meter.look(process)
            return "cpu" if meter.cpu_s > cpu_s else None

        try:
            head, data = await connection.ask(request, body, wall_s + _ANSWER_S, look)
        except SessionOver as over:
            return unrun(over)
        if "used_up" in head:
            return unrun(SessionOver(head["used_up"]))
        cell = cell_of(_accepted(head), data)
        if cell.limit == "wall" and meter.was_kept_waiting:
            raise WorkerLostError(f"the machine is too slow: a command was kept waiting for {cell.wall_s:g} seconds")
        return cell

    async def _ask(self, head: dict[str, Any], body: bytes = b"") -> Answer:
        try:
            answer, data = await self._get_open().ask(head, body, _ANSWER_S)
        except SessionOver as over:
            raise ToolError(str(over)) from over
        return _accepted(answer), data

    async def _watch(self, connection: Connection, server: int) -> None:
        """End the session when it uses up its CPU seconds, and its processes when they hold too much memory."""
        usage = usage_of(server)
        while True:
            await asyncio.sleep(_LOOK_S)
            usage.look()
            if usage.cpu_s > self._cpu_s:
                connection.lose(SessionOver("cpu"))
            elif usage.exceeds_memory(self._memory_bytes):
                connection.clear()

    def _get_open(self) -> Connection:
        if self._connection is None:
            raise WorkerLostError("the session is not open")
        return self._connection


def _accepted(head: dict[str, Any]) -> dict[str, Any]:
    if "refused" in head:
        raise ToolError(head["refused"])
    return head


def _start(start: Start, theirs: socket.socket) -> Server:
    with theirs:
        return start(theirs.fileno())


def _close_server(starting: asyncio.Future[Server]) -> None:
    """End a server whose session was abandoned while it started."""
    if not starting.cancelled() and starting.exception() is None:
        starting.result().close()
