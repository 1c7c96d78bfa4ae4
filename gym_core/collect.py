"""Many rollouts at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import repeat

from gym_core.environment import EnvironmentFactory
from gym_core.episode import open_episode
from gym_core.policies import Policy
from gym_core.rollouts import Rollout
from gym_core.tasks import Task


async def collect(
    env: EnvironmentFactory,
    policy: Policy,
    *,
    tasks: Iterable[Task] | None = None,
    samples: int = 1,
    concurrency: int = 64,
) -> AsyncIterator[Rollout]:
    """Play tasks and yield each rollout as it ends; tasks are drawn only as there is room, so they may be endless.

    Args:
        env: What is played.
        policy: Called by up to `concurrency` episodes at a time.
        tasks: The default is all of the environment's.
        samples: Rollouts of each task: the size of a group.
        concurrency: Episodes that live at the same time.
    """
    waiting = (task for task in (env.tasks if tasks is None else tasks) for _ in repeat(None, samples))
    playing: set[asyncio.Task[Rollout]] = set()
    ended: set[asyncio.Task[Rollout]] = set()
    try:
        while True:
            for task in _first(waiting, concurrency - len(playing)):
                playing.add(_start(env, policy, task))  # one by one: drawing the next task may fail
            for player in ended:
                yield player.result()
            if not playing:
                return
            ended, playing = await asyncio.wait(playing, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for player in playing:
            player.cancel()
        await asyncio.gather(*playing, return_exceptions=True)


def _start(env: EnvironmentFactory, policy: Policy, task: Task) -> asyncio.Task[Rollout]:
    return asyncio.ensure_future(open_episode(env, task).run(policy))


def _first(tasks: Iterator[Task], count: int) -> Iterator[Task]:
    return (task for _, task in zip(range(count), tasks, strict=False))
