"""Groups: the rollouts of one task, judged together."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from gym_core.environments import Environment, EnvironmentFactory, Rollout, RolloutError, Score, members
from gym_core.episodes.episode import open_episode
from gym_core.errors import EpisodeError


def judges_groups(env: EnvironmentFactory) -> bool:
    """Whether any of its environments judges the rollouts of a task together, by `verify_group`."""
    return any(has_group_verifier(kind) for member in members(env).values() for kind in _kinds(member))


def has_group_verifier(kind: type[Environment]) -> bool:
    """Whether a class implements `verify_group`."""
    return kind.verify_group.__func__ is not Environment.verify_group.__func__  # type: ignore[attr-defined]


def group_key(rollout: Rollout) -> tuple[str, str]:
    """What the rollouts of a group have in common: the environment and the task."""
    return rollout.task.environment, rollout.task.id


async def verify_groups(env: EnvironmentFactory, rollouts: Sequence[Rollout]) -> list[Rollout]:
    """Let environments judge the rollouts of each task together; those that don't keep their rewards.

    Args:
        env: What was played.
        rollouts: Finished and verified one by one, in any order.

    Returns:
        The same rollouts in the same order, with the rewards of their group. A rollout without reward is not in its
        group and stays as it is. When `verify_group` fails, its group has no reward.
    """
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for position, rollout in enumerate(rollouts):
        if rollout.reward is not None:
            groups[group_key(rollout)].append(position)
    judged = list(rollouts)
    for positions in groups.values():
        group = await _verify_group(env, [rollouts[position] for position in positions])
        for position, rollout in zip(positions, group, strict=True):
            judged[position] = rollout
    return judged


async def _verify_group(env: EnvironmentFactory, group: list[Rollout]) -> list[Rollout]:
    kind = type(open_episode(env, group[0].task).env)
    if not has_group_verifier(kind):
        return group
    try:
        verdicts = kind.verify_group(group)
        if inspect.isawaitable(verdicts):
            verdicts = await verdicts
        scores = [verdict if isinstance(verdict, Score) else Score(verdict) for verdict in verdicts]
        if len(scores) != len(group):
            raise EpisodeError(f"verify_group must score each of the {len(group)} rollouts, not {len(scores)}")
    except Exception as error:  # the episode boundary: a failure is data
        broken = RolloutError("verify", f"verify_group: {type(error).__name__}: {error}")
        return [replace(rollout, reward=None, components={}, error=broken) for rollout in group]
    return [
        replace(rollout, reward=score.reward, components=rollout.components | score.components)
        for rollout, score in zip(group, scores, strict=True)
    ]


def _kinds(env: EnvironmentFactory) -> list[type[Environment]]:
    """The class of environment it opens, if it has a task to tell by."""
    if isinstance(env, type) and issubclass(env, Environment):
        return [env]
    return [type(open_episode(env, task).env) for task, _ in zip(env.tasks, range(1), strict=False)]
