"""One event loop on one background thread per process, where every episode lives.

Trainers call tools and verifiers from synchronous code and from loops of their own; a browser or an HTTP client needs
the same loop for all its life.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, TypeVar

from gym_core.errors import EpisodeError

T = TypeVar("T")

_log = logging.getLogger(__name__)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the loop of the episodes, and wait for its result.

    Raises:
        EpisodeError: The caller runs on that loop itself and would wait forever.
    """
    if threading.current_thread() is _threads[-1]:
        coroutine.close()
        raise EpisodeError("hooks and tools must await instead: waiting here would stop every episode")
    return submit(coroutine).result()


def submit(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Start a coroutine on the loop of the episodes."""
    with _lock:
        thread = _threads[-1]
        if thread is None or not thread.can_run():
            _threads.append(thread := _LoopThread())
            thread.start()
        return thread.submit(coroutine)


class _LoopThread(threading.Thread):
    """The thread of an event loop, which keeps running whatever happens on it, until the loop is closed."""

    def __init__(self) -> None:
        super().__init__(name=f"gym-loop-{os.getpid()}", daemon=True)
        self._loop = asyncio.new_event_loop()
        self._waiting: set[Future[Any]] = set()

    def can_run(self) -> bool:
        return self.is_alive() and not self._loop.is_closed()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        return future

    def run(self) -> None:
        while not self._loop.is_closed():
            try:
                self._loop.run_forever()
                _log.warning("something has stopped the event loop of the episodes, which goes on")
            except BaseException as error:  # asyncio lets SystemExit and KeyboardInterrupt through
                _log.warning(
                    "%s has reached the event loop of the episodes, which goes on", type(error).__name__, exc_info=error
                )
        with _lock:
            lost = list(self._waiting)
        for future in lost:
            with suppress(InvalidStateError):
                future.set_exception(EpisodeError("something has closed the event loop of the episodes"))


_lock = threading.Lock()
_threads: list[_LoopThread | None] = [None]
"""The last loop is in use. Others are kept, since nothing of a loop that a fork inherited may be closed."""


def _forget() -> None:
    """Start anew in a forked child, which has inherited neither the thread nor the holder of the lock."""
    global _lock
    _lock = threading.Lock()
    _threads.append(None)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_forget)
