"""The verifier of an environment as a reward function of a TRL trainer."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gym_adapters.trl.dataset import task_of
from gym_adapters.trl.loop import submit
from gym_adapters.trl.messages import from_trl
from gym_core import EnvironmentFactory, Episode, Message, Rollout, open_episode, write_rollouts
from gym_core.episode import verify_episode
from gym_core.mixes import as_environment


def gym_reward(
    env: EnvironmentFactory | Sequence[EnvironmentFactory], *, rollouts_dir: str | Path | None = None
) -> GymReward:
    """The verifier of an environment, for `reward_funcs`; works with GRPO, RLOO and AsyncGRPO trainers.

    An episode that `gym_environment` has played is verified as it stands. Any other completion is verified in a fresh
    environment, in which its tool calls are replayed. What could not be scored is None, never 0.0: TRL leaves None
    out of the group's baseline and its gradient.

    The metrics of an environment are `gym/<name>/...`: the reward's components, and per rollout `turns`, `tool_calls`,
    `tool_errors`, `errors`, `timeouts`, `truncations` (of turns or of an unanswered tool call; TRL's own
    `completions/clipped_ratio` counts those of tokens). `gym_task` and `gym_error` are columns of the completions
    table.

    Args:
        env: An environment class, a factory, a mix, or a list of them.
        rollouts_dir: Where every rollout is appended to `rollouts.jsonl`, or `rollouts.rank<R>.jsonl` where there are
            several ranks; None writes none.
    """
    return GymReward(as_environment(env), rollouts_dir)


class GymReward:
    """Made by `gym_reward`; an object, because AsyncGRPOTrainer pickles its reward functions.

    Attributes:
        __name__: Names the metric `rewards/gym/<name>/mean`.
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
        trainer_state: Any = None,
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        **_: Any,
    ) -> list[float | None]:
        """Verify the completions of this rank, concurrently.

        Raises:
            GymError: The dataset has no `gym_row` column; nothing else is raised.
        """
        rows: Sequence[str | None] = gym_row or [None] * len(completions)
        episodes = [environment.episode for environment in environments] if environments else [None] * len(completions)
        judged = [
            open_episode(self.env, task_of(row)) if episode is None else episode
            for row, episode in zip(rows, episodes, strict=True)
        ]
        # TRL awaits this on a loop of its own; the environments live on another.
        conversations = [from_trl(*turns) for turns in zip(prompts, completions, strict=True)]
        verdicts = submit(_verify_all(judged, conversations, played=bool(environments)))
        rollouts: list[Rollout] = await asyncio.wrap_future(verdicts)
        self._log(rollouts, trainer_state, log_metric, log_extra)
        return [rollout.reward for rollout in rollouts]

    def _log(self, rollouts: list[Rollout], trainer_state: Any, log_metric: Any, log_extra: Any) -> None:
        if log_metric is not None:
            for name, value in _metrics(rollouts, self.env.name):
                log_metric(name, value)
        if log_extra is not None:
            log_extra("gym_task", [rollout.task.id for rollout in rollouts])
            log_extra("gym_error", [rollout.error.message if rollout.error else "" for rollout in rollouts])
        if self.rollouts_dir is not None:
            step = None if trainer_state is None else trainer_state.global_step
            write_rollouts(_rollouts_file(self.rollouts_dir), (replace(rollout, step=step) for rollout in rollouts))


async def _verify_all(
    episodes: Iterable[Any], conversations: Iterable[list[Message]], *, played: bool
) -> list[Rollout]:
    judge = _finish if played else verify_episode
    return await asyncio.gather(*(judge(*pair) for pair in zip(episodes, conversations, strict=True)))


async def _finish(episode: Episode, output: list[Message]) -> Rollout:
    """Verify what `gym_environment` has played, after the calls that TRL's limit of iterations left unanswered.

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
    """Means over the rollouts of each environment; components only over those that have them."""
    values: dict[str, list[float]] = defaultdict(list)
    for rollout in rollouts:
        prefix = f"gym/{rollout.task.environment or default_name}"
        for name, value in (_rates(rollout) | rollout.components).items():
            values[f"{prefix}/{name}"].append(value)
    return ((name, sum(numbers) / len(numbers)) for name, numbers in values.items())


def _rates(rollout: Rollout) -> dict[str, float]:
    return {
        "turns": rollout.turns,
        "tool_calls": rollout.tool_calls,
        "tool_errors": rollout.tool_errors,
        "errors": float(rollout.error is not None),
        "timeouts": float(rollout.stop_reason == "timeout"),
        "truncations": float(rollout.stop_reason in ("max_turns", "length")),
    }


def _rollouts_file(directory: str | Path) -> Path:
    """One file a rank; torchrun and accelerate tell a process its rank by these variables."""
    ranks, rank = int(os.environ.get("WORLD_SIZE", "1")), os.environ.get("RANK", "0")
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    return path / ("rollouts.jsonl" if ranks == 1 else f"rollouts.rank{rank}.jsonl")
