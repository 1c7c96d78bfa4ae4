"""The connection to the server of a box: requests, answers, and what the end of either side means."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

from gym_core.errors import WorkerLostError
from gym_core.processes.results import Limit
from gym_core.processes.sessions.box import LENGTHS, encode
from gym_core.processes.zygote import End

_TICK_S = 0.1

Answer = tuple[dict[str, Any], bytes]
Look = Callable[[int | None], Limit | None]
"""A look at the process of a request, by its id in the box; the limit that it has met, if any."""


class Server(Protocol):
    """The process of a server."""

    @property
    def pid(self) -> int | None:
        """Its process id here; None if it is in a container."""

    def kill(self) -> None:
        """Kill it with its box."""

    def end(self) -> End:
        """Wait for its end and say how it ended; called once."""

    def close(self) -> None:
        """Kill it and free its resources."""


class SessionOver(Exception):
    """The session has used up a limit; its code is to blame."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"the session has used up its {self.limit} and is over"


class Connection:
    """Requests to a server, from one event loop.

    Args:
        server: Server; `close` kills it.
        ours: Our end of the socket.
    """

    def __init__(self, server: Server, ours: socket.socket) -> None:
        self._server = server
        self._socket = ours
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._processes: dict[int, int] = {}  # process ids in the box, by request
        self._asked = 0
        self._end: SessionOver | WorkerLostError | None = None
        self._ending: asyncio.Task[End] | None = None

    async def open(self) -> None:
        """Start listening."""
        reader, self._writer = await asyncio.open_unix_connection(sock=self._socket)
        self._listening = asyncio.ensure_future(self._listen(reader))

    async def ask(self, head: dict[str, Any], body: bytes, limit_s: float, look: Look | None = None) -> Answer:
        """Send a request and return the answer; cancelling the call makes the server give it up.

        Args:
            head: Request.
            body: Bytes that belong to it.
            limit_s: Seconds after which the session is lost.
            look: Function that is called every tenth of a second with the process of the request, by its id in the box,
                or None; it may return a limit for which the server is to end the request.

        Raises:
            SessionOver: The session has used up a limit.
            WorkerLostError: The session is lost, or does not answer.
        """
        self.check()
        self._asked += 1
        number, end_s = self._asked, time.monotonic() + limit_s
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._writer.write(encode({**head, "id": number}, body))
        try:
            while not future.done():
                await asyncio.wait({future}, timeout=_TICK_S)
                if look and not future.done():
                    if limit := look(self._processes.get(number)):
                        self._kill(number, limit)
                    self._tell({"do": "which", "id": number})
                if time.monotonic() > end_s and not future.done():
                    self.lose(WorkerLostError(f"the session did not answer within {limit_s:g} seconds"))
        finally:
            del self._waiting[number]
            self._processes.pop(number, None)
            if future.cancel():
                self._kill(number, "cancelled")
            elif not future.cancelled():
                future.exception()  # perhaps nobody waits for it any more
        return future.result()

    def check(self) -> None:
        """Raise the reason why the session is gone, if it is."""
        if self._end:
            raise type(self._end)(*self._end.args)

    def lose(self, end: SessionOver | WorkerLostError) -> None:
        """End the session and tell all waiting callers why."""
        self._end = self._end or end
        self._server.kill()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(type(self._end)(*self._end.args))

    async def close(self) -> None:
        """Kill the server and everything it has started; pending requests are lost."""
        self.lose(WorkerLostError("the session is closed"))
        self._listening.cancel()
        self._writer.close()
        await self._finish()

    async def _finish(self) -> End:
        if self._ending is None:
            self._ending = asyncio.create_task(asyncio.to_thread(_end, self._server))
        return await asyncio.shield(self._ending)

    def clear(self) -> None:
        """Have all processes of the box killed, for holding too much memory."""
        self._tell({"do": "clear", "id": 0})

    def _kill(self, number: int, reason: str) -> None:
        self._tell({"do": "kill", "id": number, "reason": reason})

    def _tell(self, head: dict[str, Any]) -> None:
        if not self._end:
            self._writer.write(encode(head))

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                head_bytes, body_bytes = LENGTHS.unpack(await reader.readexactly(LENGTHS.size))
                head = json.loads(await reader.readexactly(head_bytes))
                body = await reader.readexactly(body_bytes)
                future = self._waiting.get(head["id"])
                if "process" in head:
                    if future:
                        self._processes[head["id"]] = head["process"]
                elif future and not future.done():  # else it has just been given up
                    future.set_result((head, body))
        except (asyncio.IncompleteReadError, OSError):
            pass
        end = await self._finish()
        self.lose(SessionOver(end.limit) if end.limit else _lost(end))


def _end(server: Server) -> End:
    server.kill()  # it may have hung up only
    end = server.end()
    server.close()
    return end


def _lost(end: End) -> WorkerLostError:
    return WorkerLostError(f"the session was lost: {end.problem or f'its server ended with {end.exit_status}'}")
