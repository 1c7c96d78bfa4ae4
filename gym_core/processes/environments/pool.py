"""The pool: the children of an environment in this process, and the episodes that wait for a place in them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gym_core.errors import EpisodeError
from gym_core.processes.environments.children import Child
from gym_core.processes.environments.launcher import Launcher
from gym_core.processes.environments.places import ChildPlace
from gym_core.processes.zygote import forget_in_forks

STUCK_S = 600.0
"""Seconds without a request after which waiting episodes give up: no open episode will make room for them."""

_WARN_S = 30.0
_TICK_S = 5.0

_log = logging.getLogger(__name__)


class Pool:
    """Children that are started on demand and replaced when they are lost; for any thread and event loop.

    Args:
        launcher: Launcher of the processes.
        count: Most children at the same time, not counting those that are about to end.
        episodes: Most environments that live in one child.

    Attributes:
        lock: Reentrant lock to hold while changing this or a child.
    """

    def __init__(self, launcher: Launcher, count: int, episodes: int) -> None:
        self._launcher = launcher
        self._children: list[Child] = []
        self._count = count
        self._episodes = episodes
        self.forget()
        forget_in_forks(self)
        weakref.finalize(self, _close, self._children, launcher)

    async def enter(self) -> ChildPlace:
        """Wait for the next free place, as `proxy.Places` describes."""
        future: asyncio.Future[ChildPlace] = asyncio.get_running_loop().create_future()
        with self.lock:
            self._waiting.append(future)
            self.changed()
        try:
            return await self._patiently(future)
        except BaseException:
            with self.lock, suppress(ValueError):
                self._waiting.remove(future)
            if future.done() and not future.cancelled() and not future.exception():
                future.result().leave()
            future.cancel()
            raise

    def changed(self) -> None:
        """Give free places to waiting episodes, in order; called with the lock held."""
        for child in list(self._children):
            child.sweep()
        while self._waiting:
            future = self._waiting[0]
            if future.done() or future.get_loop().is_closed():
                self._waiting.popleft()
                continue
            place = self._take()
            if place is None:
                return
            self._waiting.popleft()
            try:
                future.get_loop().call_soon_threadsafe(_hand, future, place)
            except RuntimeError:  # the loop was closed just now
                place.leave()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """A context to enter while a request is under way, so that waiting makes sense."""
        with self.lock:
            self._asked += 1
        try:
            yield
        finally:
            with self.lock:
                self._asked -= 1
                self._active_s, self._has_warned = time.monotonic(), False

    def forget(self) -> None:
        """Start without children; existing ones belong to the process from which this one was forked."""
        while self._children:
            self._children.pop().forget()
        self.lock = threading.RLock()
        self._waiting: deque[asyncio.Future[ChildPlace]] = deque()
        self._asked = 0
        self._active_s = time.monotonic()
        self._has_warned = False

    async def _patiently(self, future: asyncio.Future[ChildPlace]) -> ChildPlace:
        while not future.done():
            await asyncio.wait({future}, timeout=_TICK_S)
            with self.lock:
                self.changed()  # for places that were abandoned
                idle_s = 0.0 if self._asked else time.monotonic() - self._active_s
                has_warned, self._has_warned = self._has_warned, self._has_warned or idle_s > _WARN_S
            problem = (
                f"all {self._count * self._episodes} places in child processes are taken, and nothing was asked of "
                f"them for {idle_s:.0f} seconds: an episode waits for others that may wait for it. Give in_processes "
                "a count or episodes for all episodes that live at a time, such as a batch"
            )
            if idle_s > STUCK_S and not future.done():
                raise EpisodeError(problem)
            if self._has_warned and not has_warned:
                _log.warning(problem)
        return future.result()

    def _take(self) -> ChildPlace | None:
        while True:
            self._children[:] = [child for child in self._children if not child.is_given_up]
            child = min((child for child in self._children if child.is_free), key=_living, default=None)
            if (child is None or child.living) and len(self._children) < self._count:
                child = Child(self, self._launcher.start, self._episodes)
                self._children.append(child)
            if child is None:
                return None
            if place := child.take():
                return place


def _close(children: list[Child], launcher: Launcher) -> None:
    for child in children:
        child.close()
    launcher.close()


def _hand(future: asyncio.Future[ChildPlace], place: ChildPlace) -> None:
    if future.done():
        place.leave()
    else:
        future.set_result(place)


def _living(child: Child) -> int:
    return child.living
