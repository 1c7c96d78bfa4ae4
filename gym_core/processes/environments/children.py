"""Children: the processes in which environments live, seen from the parent."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from gym_core.processes.environments.places import ChildPlace

GRACE_S = 30.0
"""Seconds that a child's other environments get to end when it is given up."""

_FATE_S = 2.0


class Process(Protocol):
    """A started process; for one thread at a time."""

    def kill(self) -> None:
        """Kill it with everything that it has started."""

    def close(self) -> None:
        """Kill it and free its resources."""

    def forget(self) -> None:
        """Leave it to the process that this one was forked from."""

    def fate(self) -> str | None:
        """How it ended, such as "was killed by signal 9"; None while it lives."""


Start = Callable[[list[socket.socket]], Process]
"""Start a process that serves one place per socket; this may block."""


class Keeper(Protocol):
    """An owner of children."""

    lock: threading.RLock
    """The lock to hold while changing a child."""

    def changed(self) -> None:
        """Note that a child has a free place again, or is given up; called with the lock held."""

    def asking(self) -> AbstractContextManager[None]:
        """A context to enter while a request is under way."""


class Child:
    """A child process with places. It starts in the background, and requests wait until it has started.

    Args:
        keeper: Owner of the child.
        start: Function that starts the process.
        places: Number of places.

    Attributes:
        living: Number of places that are taken.
        is_given_up: Whether it takes no more environments.
    """

    def __init__(self, keeper: Keeper, start: Start, places: int) -> None:
        pairs = [socket.socketpair() for _ in range(places)]
        self.living = 0
        self.is_given_up = False
        self._lock = keeper.lock
        self._keeper = weakref.ref(keeper)  # the keeper ends its children when it is no longer referenced
        self._near, self._far = [near for near, _ in pairs], [far for _, far in pairs]
        for near in self._near:
            near.setblocking(False)
        self._free = list(self._near)
        self._abandoned: deque[tuple[socket.socket, bool]] = deque()
        self._process: Process | None = None
        self._problem: str | None = None
        self._grace: threading.Timer | None = None
        self._is_killed = False
        threading.Thread(target=self._run, args=(start,), name="gym-environments-start", daemon=True).start()

    @property
    def is_free(self) -> bool:
        """Whether it has a place for another environment."""
        return bool(self._free)

    def take(self) -> ChildPlace | None:
        """A free place; None if the process turns out to be dead, and is given up."""
        if _is_readable(self._free[-1]):  # an idle child sends nothing
            self._give_up()
            return None
        self.living += 1
        return ChildPlace(self, self._free.pop())

    def asking(self) -> AbstractContextManager[None]:
        """A context to enter while a request is under way."""
        keeper = self._keeper()
        return keeper.asking() if keeper else nullcontext()

    def leave(self, channel: socket.socket) -> None:
        """Take back a place, for another environment."""
        with self._lock:
            self.living -= 1
            self._free.append(channel)
            if self.is_given_up:
                self._give_up()
            self._tell_keeper()

    def lose(self) -> None:
        """Give up the process because a place in it is lost; it ends with its other environments, or after a grace."""
        with self._lock:
            self.living -= 1
            self._give_up()
            self._tell_keeper()

    def abandon(self, channel: socket.socket, *, is_living: bool) -> None:
        """Let `sweep` free or give up a place; for the garbage collector, which may run with the lock held."""
        self._abandoned.append((channel, is_living))

    def sweep(self) -> None:
        """Take back the places that were abandoned."""
        while self._abandoned:
            channel, is_living = self._abandoned.popleft()
            if is_living:
                channel.close()
                self.lose()
            else:
                self.leave(channel)

    def kill(self) -> None:
        """End the process with everything that lives in it; for any thread."""
        with self._lock:
            self.is_given_up = self._is_killed = True
            if self._grace:
                self._grace.cancel()
            if self._process and self.living:
                self._process.kill()  # the episodes will ask how it ended
            elif self._process:
                self._process.close()

    async def fate(self) -> str:
        """How the process ended, when one of its places was found closed."""
        end_s = time.monotonic() + _FATE_S
        while time.monotonic() < end_s:
            with self._lock:
                fate = self._problem or (self._process.fate() if self._process else None)
            if fate:
                return fate
            await asyncio.sleep(0.005)
        return "closed its connection"

    def close(self) -> None:
        """End the process when this is no longer used."""
        for channel in self._free:
            channel.close()
        self.kill()

    def forget(self) -> None:
        """Leave the process to the one that started it, from which this one was forked."""
        for channel in (*self._near, *self._far):
            channel.close()
        if self._process:
            self._process.forget()

    def _give_up(self) -> None:
        self.is_given_up = True
        while self._free:
            self._free.pop().close()
        if not self.living:
            self.kill()
        elif not self._grace:
            self._grace = threading.Timer(GRACE_S, self.kill)
            self._grace.daemon = True
            self._grace.start()

    def _tell_keeper(self) -> None:
        if keeper := self._keeper():
            keeper.changed()

    def _run(self, start: Start) -> None:
        process, problem = None, None
        try:
            process = start(self._far)
        except Exception as error:  # the thread's boundary: the episodes are told of any failure
            problem = f"could not be started: {error}"
        with self._lock:
            self._process, self._problem = process, problem
            for far in self._far:
                far.close()
            if self._is_killed:
                self.kill()


def _is_readable(channel: socket.socket) -> bool:
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(0))
