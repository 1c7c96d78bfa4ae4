"""The collector: plays many rollouts concurrently."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import repeat

from gym_core.environments import EnvironmentFactory, Rollout, Task
from gym_core.episodes import needs, open_episode, verify_groups
from gym_core.policies import Policy


async def collect(
    env: EnvironmentFactory,
    policy: Policy,
    *,
    tasks: Iterable[Task] | None = None,
    samples: int = 1,
    concurrency: int = 64,
) -> AsyncIterator[Rollout]:
    """Play tasks and yield each rollout as it ends; tasks are drawn only when there is room, so they may be endless.

    If the environment judges groups (`Environment.verify_group`), the rollouts of a task are yielded together.

    Args:
        env: Environment to play.
        policy: Policy that plays, called by up to `concurrency` episodes at the same time.
        tasks: Tasks to play; by default all of the environment's.
        samples: Number of rollouts per task, which is the size of a group.
        concurrency: Most episodes that are open at the same time.
    """
    groups = (_Group(env, task, samples) for task in (env.tasks if tasks is None else tasks))
    waiting = (group for group in groups for _ in repeat(None, samples))
    playing: set[asyncio.Task[list[Rollout]]] = set()
    ended: set[asyncio.Task[list[Rollout]]] = set()
    try:
        while True:
            for group in _first(waiting, concurrency - len(playing)):
                playing.add(asyncio.ensure_future(group.play(policy)))  # one by one: drawing the next task may fail
            for player in ended:
                for rollout in player.result():
                    yield rollout
            if not playing:
                return
            ended, playing = await asyncio.wait(playing, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for player in playing:
            player.cancel()
        await asyncio.gather(*playing, return_exceptions=True)


class _Group:
    """The rollouts of one task until they are judged together."""

    def __init__(self, env: EnvironmentFactory, task: Task, samples: int) -> None:
        self._env, self._task, self._samples = env, task, samples
        self._rollouts: list[Rollout] = []

    async def play(self, policy: Policy) -> list[Rollout]:
        """Play one more rollout; return the rollouts that now have their verdict."""
        episode = open_episode(self._env, self._task)
        rollout = await episode.run(policy)
        if not needs(episode.env).group_verdicts:
            return [rollout]
        self._rollouts.append(rollout)
        return await verify_groups(self._env, self._rollouts) if len(self._rollouts) == self._samples else []


def _first(groups: Iterator[_Group], count: int) -> Iterator[_Group]:
    return (group for _, group in zip(range(count), groups, strict=False))
