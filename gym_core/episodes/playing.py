"""Playing: the episode of a task, and a policy that plays one to its end."""

from __future__ import annotations

from gym_core.environments import Environment, EnvironmentFactory, Rollout, Task
from gym_core.episodes.boundary import Boundary
from gym_core.episodes.episode import Episode
from gym_core.policies import Policy


def open_episode(env: EnvironmentFactory, task: Task) -> Episode:
    """Make the episode of a task, not opened yet; if the environment can't be made, it breaks in `setup`."""
    with Boundary() as boundary:
        return Episode(env(task.copy()))
    assert boundary.failure is not None
    return Episode(_Unmade(task, boundary.failure))


async def rollout(env: Environment, policy: Policy) -> Rollout:
    """Let a policy play one episode, from `setup` to `close`.

    A broken episode is data, not a crash: it comes back with `error` set and no reward.
    """
    return await Episode(env).run(policy)


class _Unmade(Environment):
    """Takes the place of an environment whose constructor failed."""

    hooks = frozenset()

    def __init__(self, task: Task, error: BaseException) -> None:
        super().__init__(task)
        self._unmade_by = error

    def setup(self) -> None:
        raise self._unmade_by
