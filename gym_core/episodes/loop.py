"""One event loop on one background thread a process, where every episode lives.

Trainers call tools and verifiers from synchronous code and from loops of their own; a browser or an HTTP client must
see the same loop all its life.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def submit(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Start a coroutine on the loop of the episodes."""
    return asyncio.run_coroutine_threadsafe(coroutine, _loop(os.getpid()))


@cache
def _loop(pid: int) -> asyncio.AbstractEventLoop:
    """The loop of a process; a fork gets its own, since threads do not survive it."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name=f"gym-loop-{pid}", daemon=True).start()
    return loop
