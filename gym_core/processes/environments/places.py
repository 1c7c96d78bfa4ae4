"""Places in child processes: one environment at a time lives in each, and is called through a socket."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
from contextlib import AbstractContextManager, suppress
from typing import Any, Protocol

from gym_core.errors import EpisodeError
from gym_core.processes.environments.frames import CHUNK_BYTES, STOP, Frames, frame
from gym_core.processes.environments.host import Answer, Hook
from gym_core.processes.environments.proxy import UnheardError

STOP_S = 1.0
"""Seconds that a hook gets to stop when asked to; then its process is given up."""


class Owner(Protocol):
    """The child that contains a place."""

    def asking(self) -> AbstractContextManager[None]:
        """A context to enter while a request is under way."""

    def leave(self, channel: socket.socket) -> None:
        """Take back a place, for another environment."""

    def lose(self) -> None:
        """Give up the process because a place in it is lost."""

    def abandon(self, channel: socket.socket, *, is_living: bool) -> None:
        """Free a place later, or give it up if an environment lives in it."""

    async def fate(self) -> str:
        """How the process ended."""


class ChildPlace:
    """A place in a child. It is not bound to an event loop, so it can serve one loop after another."""

    def __init__(self, child: Owner, channel: socket.socket) -> None:
        self.is_lost = False
        self._child = child
        self._channel = channel
        self._frames = Frames()
        self._is_asking = False
        self._is_living = False  # an environment was set up and has not been closed
        self._has_left = False
        self._pid = os.getpid()

    async def ask(self, hook: Hook, *arguments: Any) -> Answer:
        """Ask the environment, as `proxy.Place` describes."""
        if self.is_lost or self._pid != os.getpid():
            raise EpisodeError("the process of the environment is gone, and the episode in it is lost")
        request = _request(hook, arguments)
        self._is_living = self._is_living or hook == "setup"
        self._is_asking = True
        try:
            with self._child.asking():
                body = await self._exchange(request, hook)
        finally:
            self._is_asking = False
            if self.is_lost:
                self._channel.close()
        self._is_living = self._is_living and hook != "close"
        return _answer(body, hook)

    def leave(self) -> None:
        """Make room, as `proxy.Place` describes."""
        if self._is_living:
            self._lose()
        if not self._has_left and self._pid == os.getpid():
            self._has_left = True
            self._child.leave(self._channel)

    def __del__(self) -> None:
        if not self._has_left and self._pid == os.getpid():  # the episode was never closed
            self._child.abandon(self._channel, is_living=self._is_living)

    def _lose(self) -> None:
        """Give up the environment, and its process once the other environments there have ended."""
        if self.is_lost or self._pid != os.getpid():
            return
        self.is_lost = self._has_left = True
        if self._is_asking:
            self._channel.shutdown(socket.SHUT_RDWR)  # the request under way closes it
        else:
            self._channel.close()
        self._child.lose()

    async def _exchange(self, request: bytes, hook: Hook) -> bytes:
        loop = asyncio.get_running_loop()
        is_sent = has_stopped = False
        try:
            await loop.sock_sendall(self._channel, request)
            is_sent = True
            return await self._receive(loop)
        except (OSError, EOFError) as error:
            try:
                fate = await self._child.fate()
            finally:
                self._lose()
            # Linux reports "connection reset" if something was left unread: unix_release_sock in net/unix/af_unix.c.
            kind = EpisodeError if isinstance(error, EOFError) else UnheardError
            raise kind(f"the process of the environment {fate}") from None
        except asyncio.CancelledError:
            try:
                has_stopped = is_sent and await self._stops(loop)
            finally:
                if not has_stopped:
                    self._lose()
            raise

    async def _receive(self, loop: asyncio.AbstractEventLoop) -> bytes:
        while (body := self._frames.take()) is None:
            chunk = await loop.sock_recv(self._channel, CHUNK_BYTES)
            if not chunk:
                raise EOFError
            self._frames.add(chunk)
        return body

    async def _stops(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the running hook stops when asked to; its answer is discarded."""
        with suppress(OSError):  # it has died, as reading will show
            await loop.sock_sendall(self._channel, STOP)
        answering = asyncio.ensure_future(self._receive(loop))
        try:
            await asyncio.wait({answering}, timeout=STOP_S)
            return answering.done() and answering.exception() is None
        finally:
            answering.cancel()


def _request(hook: Hook, arguments: tuple[Any, ...]) -> bytes:
    try:
        return frame((hook, *arguments))
    except Exception as error:  # whatever `__reduce__` of the author's objects raises
        sentence = f"the arguments of {hook!r} can't be pickled for another process"
        raise EpisodeError(f"{sentence}: {type(error).__name__}: {error}") from error


def _answer(body: bytes, hook: Hook) -> Answer:
    try:
        answer: Answer = pickle.loads(body)  # from the author's own code, which this process trusts
    except Exception as error:  # whatever `__setstate__` of the author's objects raises
        sentence = f"the result of {hook!r} can't be unpickled in this process"
        raise EpisodeError(f"{sentence}: {type(error).__name__}: {error}") from error
    return answer
