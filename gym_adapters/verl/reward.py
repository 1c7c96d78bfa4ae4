"""The verifier of an environment as verl's custom reward function, for single turns."""

from __future__ import annotations

from typing import Any, cast

from gym_adapters.verl.metrics import reward_extra_info
from gym_adapters.verl.rows import GymRow, gym_row
from gym_core import GymError, Rollout, ScriptedPolicy, open_episode
from gym_core.driving import Needs, Player, playable, run

REWARD_FUNCTION = Player(
    "a reward function",
    gives=Needs(),
    instead="set actor_rollout_ref.rollout.agent.default_agent_loop=gym",
)
"""A player of one reply to the task's prompt, which is all that `compute_score` can judge."""


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any] | None = None, **_: Any
) -> dict[str, float]:
    """The reward of one reply, for `reward.custom_reward_function.path=pkg://gym_adapters.verl.reward`.

    Any of verl's reward managers calls it, from any thread; verl runs it outside its event loops.

    Args:
        data_source: Not used; the row names the environment.
        solution_str: Reply, without special tokens.
        ground_truth: Not used; the row has the task.
        extra_info: The row's `extra_info`, which has the task.

    Returns:
        `score` and the metrics of `reward_extra_info`.

    Raises:
        GymError: There is no verdict: the environment broke, or has more than one turn. verl then counts a failed
            session, which it leaves out of its group, or it replaces the group. A made-up 0 would be trained on.
    """
    row = gym_row(extra_info)
    rollout = run(_verify(row, solution_str))
    if rollout.reward is None:
        rollout.raise_for_error()
    return reward_extra_info(rollout, row.source.components, score=cast("float", rollout.reward))


async def _verify(row: GymRow, reply: str) -> Rollout:
    async with open_episode(row.env, row.task) as episode:
        if problem := playable(episode, by=REWARD_FUNCTION):
            raise GymError(problem)
        if not episode.done:
            await episode.play(ScriptedPolicy([reply]))
    return episode.rollout
