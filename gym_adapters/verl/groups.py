"""Groups: the rollouts of one prompt, which verl plays in one worker process and takes only together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from gym_core import Rollout

Judge = Callable[[list[Rollout]], Awaitable[list[Rollout]]]

_groups: dict[tuple[asyncio.AbstractEventLoop, Any], _Group] = {}


class _Group:
    """A prompt's rollouts, until all have ended."""

    def __init__(self) -> None:
        self.playing = 0
        self.rollouts: dict[Any, Rollout] = {}
        self.judged: asyncio.Future[dict[Any, Rollout]] = asyncio.get_running_loop().create_future()


async def play_in_group(
    uid: Any, session: Any, rollout: Awaitable[Rollout], judge: Judge
) -> tuple[Rollout, list[Rollout]]:
    """Play one rollout, and wait for the others of its prompt.

    verl starts all rollouts of a prompt at once, so all have joined before the first of them ends. It takes no group
    before its last rollout has ended, so waiting costs nothing.

    Args:
        uid: Id of the prompt.
        session: Number of the rollout.
        rollout: Coroutine that plays the rollout; it is awaited once.
        judge: Function that judges all rollouts of the group, in the order of their sessions; it is called once.

    Returns:
        This rollout, and the whole group, as judged.
    """
    key = (asyncio.get_running_loop(), uid)
    group = _groups.setdefault(key, _Group())
    group.playing += 1
    try:
        group.rollouts[session] = await rollout
    finally:
        group.playing -= 1
        if not group.playing:
            del _groups[key]
            await _judge(group, judge)
    judged = await group.judged
    return judged[session], list(judged.values())


async def _judge(group: _Group, judge: Judge) -> None:
    sessions = sorted(group.rollouts)
    try:
        judged = await judge([group.rollouts[session] for session in sessions])
    except BaseException as error:
        group.judged.set_exception(error)
        raise
    group.judged.set_result(dict(zip(sessions, judged, strict=True)))
