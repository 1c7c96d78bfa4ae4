"""The verifier of an environment as a reward function of a TRL trainer."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

from gym_adapters.trl.dataset import task_of
from gym_adapters.trl.environment import Playground
from gym_adapters.trl.groups import verify_groups_of_ranks
from gym_adapters.trl.messages import from_trl
from gym_core import EnvironmentFactory, Episode, GymError, Message, Rollout, open_episode, write_rollouts
from gym_core.driving import (
    Needs,
    Player,
    as_environment,
    begins_alike,
    needs,
    playable,
    submit,
    verify_conversation,
)

REWARD_FUNCS = Player(
    "reward_funcs alone",
    gives=Needs(tools=True, group_verdicts=True),  # the trainer may have tools of its own
    instead="pass rollout_func=gym_rollout(env)",
)
"""The player if the trainer itself plays single turns, or uses its own `tools`."""


def gym_reward(
    env: EnvironmentFactory | Sequence[EnvironmentFactory], *, rollouts_dir: str | Path | None = None
) -> Callable[..., Any]:
    """The verifier of an environment, for `reward_funcs`; works with GRPO, RLOO and AsyncGRPO trainers.

    The rollouts of `gym_rollout` are verified already. An episode that `gym_environment` has played is verified as it
    stands. Any other completion is verified in a fresh environment, in which its tool calls are replayed. A rollout
    that can't be scored has a reward of None, never 0.0: TRL leaves None out of the group's baseline and gradient.

    If the environment judges groups (`Environment.verify_group`), the rollouts of a task in the batch are judged
    together, even when they are on several ranks.

    The metrics of an environment are `gym/<name>/...`: the reward's components, and per rollout `turns`, `tool_calls`,
    `tool_errors`, `errors`, `timeouts`, `truncations` (of turns or of an unanswered tool call; TRL's own
    `completions/clipped_ratio` counts those of tokens) and `broken_tokens` (see `TokenTrack.broken`). `gym_task` and
    `gym_error` are columns of the completions table.

    Args:
        env: Environment class, factory or mix, or a list of them.
        rollouts_dir: Folder in which every rollout is appended to `rollouts.jsonl`, or to `rollouts.rank<R>.jsonl` if
            there are several ranks; None writes none.
    """
    return GymReward(as_environment(env), rollouts_dir)


class GymReward:
    """The result of `gym_reward`; an object, because AsyncGRPOTrainer pickles its reward functions.

    Attributes:
        __name__: Name in the metric `rewards/gym/<name>/mean`.
    """

    def __init__(self, env: EnvironmentFactory, rollouts_dir: str | Path | None = None) -> None:
        self.env = env
        self.rollouts_dir = rollouts_dir
        self.__name__ = f"gym/{env.name}"

    async def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        gym_row: Sequence[str] | None = None,
        environments: Sequence[Any] | None = None,
        gym_rollout: Sequence[Rollout] | None = None,
        trainer_state: Any = None,
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        **_: Any,
    ) -> list[float | None]:
        """Verify the completions of this rank, concurrently.

        Raises:
            GymError: The dataset has no `gym_row` column, or the policy was never shown the opening that the
                environment makes; nothing else is raised.
        """
        rollouts = gym_rollout or await self._verify(
            [from_trl(*turns) for turns in zip(prompts, completions, strict=True)], gym_row, environments
        )
        if self._needs.group_verdicts:
            rollouts = await asyncio.wrap_future(submit(verify_groups_of_ranks(self.env, rollouts)))
        self._log(rollouts, trainer_state, log_metric, log_extra)
        return [rollout.reward for rollout in rollouts]

    @cached_property
    def _needs(self) -> Needs:
        return needs(self.env)

    async def _verify(
        self, outputs: list[list[Message]], rows: Sequence[str] | None, environments: Sequence[Any] | None
    ) -> list[Rollout]:
        if environments and isinstance(environments[0], Playground):
            verdicts = [_finish(played.episode, output) for played, output in zip(environments, outputs, strict=True)]
            return await _on_their_loop(verdicts)
        episodes = [open_episode(self.env, task_of(row)) for row in rows or repeat(None, len(outputs))]
        rollouts = await _on_their_loop([verify_conversation(*pair) for pair in zip(episodes, outputs, strict=True)])
        for episode, output in zip(episodes, outputs, strict=True):
            _check_opening(episode, output)
        return rollouts

    def _log(self, rollouts: Sequence[Rollout], trainer_state: Any, log_metric: Any, log_extra: Any) -> None:
        if log_metric is not None:
            for name, value in _metrics(rollouts, self.env.name):
                log_metric(name, value)
        if log_extra is not None:
            log_extra("gym_task", [rollout.task.id for rollout in rollouts])
            log_extra("gym_error", [rollout.error.message if rollout.error else "" for rollout in rollouts])
        if self.rollouts_dir is not None:
            step = None if trainer_state is None else trainer_state.global_step
            write_rollouts(_rollouts_file(self.rollouts_dir), (replace(rollout, step=step) for rollout in rollouts))


async def _on_their_loop(verdicts: Iterable[Coroutine[Any, Any, Rollout]]) -> list[Rollout]:
    """Await verdicts where the environments live: TRL awaits its reward functions on a loop of its own."""

    async def all_of_them() -> list[Rollout]:
        return await asyncio.gather(*verdicts)

    return await asyncio.wrap_future(submit(all_of_them()))


def _check_opening(episode: Episode, output: Sequence[Message]) -> None:
    """Refuse to train on replies to another opening than the one the environment makes.

    Raises:
        GymError: The policy was shown another one.
    """
    problem = playable(episode, by=REWARD_FUNCS) if episode.made_opening else None
    if problem and not begins_alike(episode.opening, output):
        raise GymError(problem)


async def _finish(episode: Episode, output: list[Message]) -> Rollout:
    """Verify an episode of `gym_environment`, after answering the calls that TRL's limit of iterations left out.

    Every other loop runs the calls of the last turn too. A call whose answer TRL dropped for its length has run.
    """
    calls = [call for message in output for call in message.get("tool_calls", ())]
    known = [call for call in calls if call["function"]["name"] in episode.env.tools]
    unanswered = output[-1].get("tool_calls", [])
    if not episode.done and len(known) - episode.tool_calls == sum(call in known for call in unanswered):
        for call in unanswered:
            await episode.call(call)
    return await episode.finish(output)


def _metrics(rollouts: Sequence[Rollout], default_name: str) -> Iterator[tuple[str, float]]:
    """Means over the rollouts of each environment; for components, over the rollouts that have them."""
    values: dict[str, list[float]] = defaultdict(list)
    for rollout in rollouts:
        prefix = f"gym/{rollout.task.environment or default_name}"
        for name, value in (rollout.rates | rollout.components).items():
            values[f"{prefix}/{name}"].append(value)
    return ((name, sum(numbers) / len(numbers)) for name, numbers in values.items())


def _rollouts_file(directory: str | Path) -> Path:
    """One file per rank; torchrun and accelerate set these variables in every process."""
    ranks, rank = int(os.environ.get("WORLD_SIZE", "1")), os.environ.get("RANK", "0")
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    return path / ("rollouts.jsonl" if ranks == 1 else f"rollouts.rank{rank}.jsonl")
