"""Rows for preference and KTO trainers: single turns, since their loss falls on the whole completion."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from gym_core.environments import Rollout
from gym_core.export.rows import Rows
from gym_core.export.selection import (
    Lengths,
    message_key,
    message_problem,
    policy_turns,
    reward_of,
    scored,
    task_id,
    task_key,
    template_messages,
    tools_column,
)

_TRAINING = (
    "TRL and Unsloth: `{config}(max_length=...)`, whose default is 1024. The loss falls on the whole completion, "
    "so each completion is one assistant message. Load with `load_dataset('json', data_files=...)` or "
    "`Dataset.from_list(rows, on_mixed_types='use_json')`: otherwise Arrow gives every call the arguments of all "
    "others, as null."
)


def preference_pairs(
    rollouts: Iterable[Rollout],
    *,
    margin: float = 0.0,
    keep_truncated: bool = False,
    max_tokens: int | None = None,
    tokenizer: Any = None,
) -> Rows:
    """Pairs of turns that were written after the same conversation and led to different rewards.

    The value of a turn is the mean reward of the task's rollouts that took it. At each point where rollouts took
    different turns, the best turn is chosen and the worst rejected. So pass all rollouts of a task, not only good ones.

    Args:
        rollouts: Rollouts of any tasks, in any order; each is used up to a call that no chat template can write.
        margin: Difference that the two values of a pair must exceed.
        keep_truncated: Whether to use rollouts that reached a limit of turns or tokens.
        max_tokens: Most tokens of a prompt with its completion; a rollout is used up to the turn that exceeds them.
        tokenizer: Tokenizer of the model, with whose chat template tokens are counted; only for `max_tokens`.

    Returns:
        One row per pair: `prompt`, `chosen` and `rejected` (lists of messages, the last two of one), `tools` (JSON
        text, or None), `gym_task`, `gym_chosen_reward` and `gym_rejected_reward` (the values).
    """
    lengths = Lengths(tokenizer, max_tokens)
    points, taking_part, dropped = _points(rollouts, lengths, keep_truncated=keep_truncated)
    rows = []
    for turns in points:
        best, worst = max(turns, key=lambda turn: turn.value), min(turns, key=lambda turn: turn.value)
        if best.value - worst.value > margin:
            rows.append(
                {
                    "prompt": best.prompt,
                    "chosen": best.completion,
                    "rejected": worst.completion,
                    "tools": tools_column(best.rollout),
                    "gym_task": task_id(best.rollout),
                    "gym_chosen_reward": best.value,
                    "gym_rejected_reward": worst.value,
                }
            )
    return Rows(rows, training=_TRAINING.format(config="DPOConfig"), rewards=taking_part, dropped=dropped)


def kto_rows(
    rollouts: Iterable[Rollout],
    *,
    threshold: float = 0.5,
    keep_truncated: bool = False,
    max_tokens: int | None = None,
    tokenizer: Any = None,
) -> Rows:
    """Single turns, and whether they are desirable.

    Args:
        rollouts: Rollouts, as for `preference_pairs`.
        threshold: Least value of a desirable turn; the value is the mean reward of the task's rollouts that took it.
        keep_truncated: Whether to use rollouts that reached a limit of turns or tokens.
        max_tokens: Most tokens, as for `preference_pairs`.
        tokenizer: Tokenizer, as for `preference_pairs`.

    Returns:
        One row per distinct turn: `prompt` and `completion` (lists of messages, the latter of one), `label`, `tools`
        (JSON text, or None), `gym_task` and `gym_reward` (the value).
    """
    lengths = Lengths(tokenizer, max_tokens)
    points, taking_part, dropped = _points(rollouts, lengths, keep_truncated=keep_truncated)
    rows = [
        {
            "prompt": turn.prompt,
            "completion": turn.completion,
            "label": turn.value >= threshold,
            "tools": tools_column(turn.rollout),
            "gym_task": task_id(turn.rollout),
            "gym_reward": turn.value,
        }
        for turns in points
        for turn in turns
    ]
    return Rows(rows, training=_TRAINING.format(config="KTOConfig"), rewards=taking_part, dropped=dropped)


@dataclass(frozen=True)
class _Turn:
    """A turn at one point of a conversation, taken by one or more rollouts of a task.

    Attributes:
        rollout: First rollout that took it.
        position: Position of the message in that rollout's output.
        rewards: Rewards of all rollouts that took it.
    """

    rollout: Rollout
    position: int
    rewards: list[float]

    @property
    def value(self) -> float:
        return float(mean(self.rewards))  # exact, unlike `fmean`: equal rewards have equal means

    @property
    def prompt(self) -> list[dict[str, Any]]:
        return template_messages(self.rollout.output[: self.position])

    @property
    def completion(self) -> list[dict[str, Any]]:
        return template_messages(self.rollout.output[self.position : self.position + 1])


def _points(
    rollouts: Iterable[Rollout], lengths: Lengths, *, keep_truncated: bool
) -> tuple[list[Sequence[_Turn]], list[float], Counter[str]]:
    """The different turns at each point of a conversation, the rewards that were used, and how many were not."""
    dropped: Counter[str] = Counter()
    points: defaultdict[tuple[str, ...], dict[str, _Turn]] = defaultdict(dict)
    taking_part = []
    for rollout in scored(rollouts, dropped, keep_truncated=keep_truncated):
        written, reason = _written(rollout, lengths)
        if not written:
            dropped[reason] += 1
            continue
        taking_part.append(reward_of(rollout))
        before = task_key(rollout)
        for position, message in enumerate(rollout.output[: written[-1] + 1]):
            said = message_key(message)
            if position in written:
                turn = points[before].setdefault(said, _Turn(rollout, position, []))
                turn.rewards.append(reward_of(rollout))
            before = (*before, said)
    return [list(turns.values()) for turns in points.values()], taking_part, dropped


def _written(rollout: Rollout, lengths: Lengths) -> tuple[list[int], str]:
    """Positions of the policy's turns in the output, up to the first that can't be in a row, and the reason."""
    written: list[int] = []
    for position in policy_turns(rollout):
        messages = rollout.output[: position + 1]
        if any(message_problem(message) is not None for message in messages):
            return written, "it has no turn that a chat template can write"
        if problem := lengths.problem(rollout, messages):
            return written, problem
        written.append(position)
    return written, "the assistant wrote nothing"
