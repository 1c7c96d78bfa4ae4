"""Groups: the rollouts of one prompt, which verl plays in one worker process and samples only together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from gym_core import Rollout

Judge = Callable[[list[Rollout]], Awaitable[list[Rollout]]]

_groups: dict[tuple[asyncio.AbstractEventLoop, Any], _Group] = {}


class _Group:
    """Those of a prompt's rollouts that have not all ended."""

    def __init__(self) -> None:
        self.playing = 0
        self.rollouts: dict[Any, Rollout] = {}
        self.judged: asyncio.Future[dict[Any, Rollout]] = asyncio.get_running_loop().create_future()


async def play_in_group(
    uid: Any, session: Any, rollout: Awaitable[Rollout], judge: Judge
) -> tuple[Rollout, list[Rollout]]:
    """Play one rollout, and wait for the others of its prompt.

    verl starts all rollouts of a prompt in one go, so that they have all joined before the first of them ends. It
    samples no group before its last rollout has ended, so nothing is lost by waiting.

    Args:
        uid: Of the prompt.
        session: Of the rollout.
        rollout: Plays it; is awaited once.
        judge: Is given all rollouts of the group, once, in the order of their sessions.

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
