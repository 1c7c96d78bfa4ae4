"""Groups: the rollouts of one task, judged together."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from gym_core.environments import EnvironmentFactory, Rollout, RolloutError, Score
from gym_core.episodes.boundary import Boundary, sentence
from gym_core.episodes.limits import within
from gym_core.episodes.requirements import needs
from gym_core.errors import EpisodeError


def group_key(rollout: Rollout) -> tuple[str, str]:
    """The key that the rollouts of a group share: the environment and the task."""
    return rollout.task.environment, rollout.task.id


async def verify_groups(env: EnvironmentFactory, rollouts: Sequence[Rollout]) -> list[Rollout]:
    """Let environments judge the rollouts of each task together; other environments keep their rewards.

    Args:
        env: Environment that was played.
        rollouts: Finished rollouts, verified one by one, in any order.

    Returns:
        The same rollouts in the same order, with the rewards of their group. A rollout without a reward is left out of
        its group and stays as it is. If a group can't be judged, none of its rollouts has a reward.
    """
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for position, rollout in enumerate(rollouts):
        if rollout.reward is not None:
            groups[group_key(rollout)].append(position)
    verdicts = await asyncio.gather(
        *(_verify_group(env, [rollouts[position] for position in positions]) for positions in groups.values())
    )
    judged = list(rollouts)
    for positions, group in zip(groups.values(), verdicts, strict=True):
        for position, rollout in zip(positions, group, strict=True):
            judged[position] = rollout
    return judged


async def _verify_group(env: EnvironmentFactory, group: list[Rollout]) -> list[Rollout]:
    with Boundary() as boundary:
        judge = env(group[0].task.copy())
        if not needs(judge).group_verdicts:
            return group
        verdicts = await within(judge.verify_group(group))
        scores = [verdict if isinstance(verdict, Score) else Score(verdict) for verdict in verdicts]
        if len(scores) != len(group):
            raise EpisodeError(f"it must score each of the {len(group)} rollouts, not {len(scores)}")
    if boundary.failure is not None:  # a failure is data
        broken = RolloutError("verify", f"verify_group: {sentence(boundary.failure)}")
        return [replace(rollout, reward=None, components={}, error=broken) for rollout in group]
    return [
        replace(rollout, reward=score.reward, components=rollout.components | score.components)
        for rollout, score in zip(group, scores, strict=True)
    ]
