"""Limits: awaiting authors' code for a given time, whatever it does."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable
from math import inf
from typing import Any

from gym_core.episodes.boundary import Boundary
from gym_core.errors import EpisodeError


class OutOfTime(EpisodeError):
    """A hook ran out of time; a TimeoutError would come from the hook itself."""


async def within(value: Any, limit_s: float = inf) -> Any:
    """The value of a hook, sync or async.

    Raises:
        OutOfTime: The hook took longer than the limit.
    """
    if not inspect.isawaitable(value):
        return value
    if limit_s == inf:
        return await value
    timeout = asyncio.timeout(limit_s)
    try:
        async with timeout:
            result = await value
    except TimeoutError as error:
        if timeout.expired():
            raise OutOfTime from error
        raise
    if timeout.expired():  # it has caught its cancellation, and returned all the same
        raise OutOfTime
    return result


async def uncancelled(work: Awaitable[None], limit_s: float) -> None:
    """Wait for work to end, but not past the limit, even when this task is cancelled meanwhile; then be cancelled.

    Raises:
        EpisodeError: The work took longer than the limit.
        BaseException: The exception that the work raised.
    """
    task = asyncio.ensure_future(_failure_of(work))
    end_s = time.monotonic() + limit_s
    cancelled: asyncio.CancelledError | None = None
    while not task.done() and (left_s := end_s - time.monotonic()) > 0:
        try:
            await asyncio.wait({task}, timeout=left_s)  # `wait_for` would also wait for work that ignores `cancel`
        except asyncio.CancelledError as error:
            cancelled = error
    failure: BaseException | None
    if not task.done():
        task.cancel()
        failure = EpisodeError(f"close took longer than {limit_s:g} seconds and was given up")
    else:
        failure = task.result()
    if cancelled:
        raise cancelled from failure
    if failure:
        raise failure


async def _failure_of(work: Awaitable[None]) -> BaseException | None:
    """The exception of the work, as a value: a task that raises SystemExit would end its event loop."""
    with Boundary() as boundary:
        await work
    return boundary.failure
