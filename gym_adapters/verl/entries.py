"""The config entries that make verl's stock trainer play environments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gym_adapters.verl.reward import REWARD_FUNCTION
from gym_adapters.verl.rows import Source
from gym_core import EpisodeError
from gym_core.driving import members, opened_episode, playable

REWARD = "reward.custom_reward_function.path=pkg://gym_adapters.verl.reward"
AGENT_LOOP = "actor_rollout_ref.rollout.agent.default_agent_loop=gym"
COMMON = (
    "algorithm.adv_estimator=gym_grpo",
    "trainer.v1.sampler.custom_sampler.path=pkg://gym_adapters.verl.sampler",
    "trainer.v1.sampler.custom_sampler.name=gym_sampler",
)


def overrides(sources: Sequence[Source], data: Path) -> list[str]:
    """The arguments of `python -m verl.trainer.main_ppo` for environments, without those for model and machine.

    Args:
        sources: Environments of the run.
        data: Folder in which the command `data` has written their tasks.

    Raises:
        EnvironmentSpecError: There is no such environment, or it has no tasks.
    """
    form = "parquet" if (data / "train.parquet").exists() else "jsonl"
    files = [f"data.{split}_files={data / split}.{form}" for split in ("train", "val")]
    return [*files, REWARD if all(map(_is_single_turn, sources)) else AGENT_LOOP, *COMMON]


def _is_single_turn(source: Source) -> bool:
    try:
        return not any(playable(opened_episode(env), by=REWARD_FUNCTION) for env in members(source.env).values())
    except EpisodeError:  # it can't be opened on this machine; the agent loop can play anything
        return False
