"""Hooks: awaiting what environments and policies implement, within limits, whatever they do."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable
from math import inf
from typing import Any

from gym_core.errors import EpisodeError


class OutOfTime(Exception):
    """A hook was given up; a TimeoutError would be the hook's own."""


async def within(value: Any, limit_s: float) -> Any:
    """The value of a hook, sync or async.

    Raises:
        OutOfTime: It took longer than the limit.
    """
    if not inspect.isawaitable(value):
        return value
    if limit_s == inf:
        return await value
    timeout = asyncio.timeout(limit_s)
    try:
        async with timeout:
            return await value
    except TimeoutError as error:
        if timeout.expired():
            raise OutOfTime from error
        raise


async def uncancelled(work: Awaitable[None], limit_s: float) -> None:
    """Wait for work to end, but not past the limit, even when this task is cancelled meanwhile; then be cancelled."""
    task = asyncio.ensure_future(work)
    end_s = time.monotonic() + limit_s
    cancelled: asyncio.CancelledError | None = None
    while not task.done() and (left_s := end_s - time.monotonic()) > 0:
        try:
            await asyncio.wait({task}, timeout=left_s)  # unlike `wait_for`, it does not wait for who ignores `cancel`
        except asyncio.CancelledError as error:
            cancelled = error
    failure: BaseException | None
    if not task.done():
        task.cancel()
        failure = EpisodeError(f"close took longer than {limit_s:g} seconds and was given up")
    elif task.cancelled():
        failure = EpisodeError("something it waited for was cancelled")
    else:
        failure = task.exception()
    if cancelled:
        raise cancelled from failure
    if failure:
        raise failure


def is_cancelled() -> bool:
    """Whether it is this task that somebody cancels, not just something it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
