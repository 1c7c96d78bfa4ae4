"""The verifier of an environment as a reward function of an Unsloth run, whatever its TRL."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from gym_adapters import trl
from gym_adapters.unsloth.imports import NONE_SINCE, trl_version
from gym_core import EnvironmentFactory, GymError
from gym_core.driving import run

RETRIES = 2
"""How often a rollout without a reward is verified again, if TRL does not know rewards of None."""

_log = logging.getLogger(__name__)


def gym_reward(
    env: EnvironmentFactory | Sequence[EnvironmentFactory], *, rollouts_dir: str | Path | None = None
) -> Callable[..., Any]:
    """The verifier of an environment, for `reward_funcs`; see `gym_adapters.trl.gym_reward`.

    TRL 1.9.2 and later leave a reward of None out of the group. Earlier versions would add it up as 0. With those, a
    rollout that can't be scored is verified twice more and then excluded: it gets the mean reward of the other rollouts
    of its task in the batch, so that its advantage is 0 and the group's mean does not change. If there is no such mean,
    the run stops. Give the trainer no other reward function then, since its rewards would be added.

    Args:
        env: Environment class, factory or mix, or a list of them.
        rollouts_dir: Folder in which every try of a rollout is appended to `rollouts.jsonl`; None writes none.
    """
    reward = trl.gym_reward(env, rollouts_dir=rollouts_dir)
    return reward if trl_version() >= NONE_SINCE else ExcludingReward(reward)


class ExcludingReward:
    """A sync reward function that never returns None, for TRL before 1.9.2.

    Args:
        reward: Reward function of `gym_adapters.trl.gym_reward`.

    Attributes:
        __name__: Name in the metric `rewards/gym/<name>/mean`.
    """

    def __init__(self, reward: Any) -> None:
        self._reward = reward
        self.__name__: str = reward.__name__

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], gym_row: Sequence[str], **columns: Any
    ) -> list[float]:
        """Verify the completions of this rank, concurrently.

        Raises:
            GymError: No rollout of a task could be scored, or its group spans several ranks.
        """
        rewards: list[float | None] = [None] * len(prompts)
        state = columns.get("trainer_state")
        for _ in range(1 + RETRIES):
            if not (unscored := [position for position, reward in enumerate(rewards) if reward is None]):
                break
            asked = [[column[position] for position in unscored] for column in (prompts, completions, gym_row)]
            verdicts = run(self._reward(*asked, trainer_state=state))
            for position, reward in zip(unscored, verdicts, strict=True):
                rewards[position] = reward
        return without_none(rewards, gym_row)


def without_none(rewards: Sequence[float | None], groups: Sequence[str]) -> list[float]:
    """Replace each None by the mean of the group's other rewards, which gives it an advantage of 0.

    Args:
        rewards: Rewards of one rank.
        groups: Task of each rollout.

    Raises:
        GymError: There are no other rewards, or they may be on another rank.
    """
    scored: dict[str, list[float]] = defaultdict(list)
    for reward, group in zip(rewards, groups, strict=True):
        if reward is not None:
            scored[group].append(reward)
    unscored = [group for reward, group in zip(rewards, groups, strict=True) if reward is None]
    if not unscored:
        return [reward for reward in rewards if reward is not None]
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks > 1 or any(group not in scored for group in unscored):
        raise GymError(
            f"{len(unscored)} of {len(rewards)} rollouts could not be scored in {1 + RETRIES} tries, and this TRL "
            "would count them as 0: use trl >= 1.9.2, which leaves them out, and rollouts_dir to see why"
        )
    _log.warning("%d of %d rollouts could not be scored; nothing is learned from them", len(unscored), len(rewards))
    return [fmean(scored[group]) if reward is None else reward for reward, group in zip(rewards, groups, strict=True)]
