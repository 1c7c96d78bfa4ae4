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
"""What `compute_score` can judge: one reply to the task's prompt."""


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any] | None = None, **_: Any
) -> dict[str, float]:
    """The reward of one reply, for `reward.custom_reward_function.path=pkg://gym_adapters.verl.reward`.

    It is called from any thread, by any of verl's reward managers; verl runs it off its event loops.

    Args:
        data_source: Not used; the row says which environment it is.
        solution_str: The reply, without special tokens.
        ground_truth: Not used; the row has the task.
        extra_info: The row's, with the task.

    Returns:
        `score` and the metrics of `reward_extra_info`.

    Raises:
        GymError: There is no verdict: the environment broke, or it is not of one turn. verl then has a failed session:
            it is left out of its group, or the group is replaced. A made-up 0 would be trained on.
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
