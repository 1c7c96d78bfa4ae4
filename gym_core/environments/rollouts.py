"""Rollouts: finished episodes, and their JSONL."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gym_core.environments.tasks import Task
from gym_core.errors import EpisodeError, TaskError
from gym_core.messages import Message, ToolSchema, last_reply
from gym_core.tokens import TokenTrack

StopReason = Literal["done", "max_turns", "length", "timeout", "error"]
"""Why an episode ended: the environment or the policy was done, a limit was met, or something broke."""

ErrorKind = Literal["setup", "policy", "tool", "respond", "replay", "verify", "close", "timeout"]
"""The part of the episode that broke."""


@dataclass(frozen=True)
class RolloutError:
    """What broke an episode: the part it happened in, and a sentence."""

    kind: ErrorKind
    message: str


@dataclass(frozen=True)
class Rollout:
    """A finished episode.

    Attributes:
        reward: None when the episode broke, and only then: a failure is never scored.
        output: The whole conversation in the OpenAI chat format, opening included.
        components: The named parts of the reward, if the verifier gave any.
        error: What broke. Every rollout without reward has one; one that broke only in `close` keeps its reward.
        stop_reason: Why it ended.
        task: What was played.
        tools: The schemas the policy saw.
        turns: Assistant messages the policy wrote.
        tool_calls: Tool calls the policy made.
        tool_errors: Those of them that were refused: unknown, malformed, timed out, or a ToolError.
        seconds: Wall time from opening to verdict.
        step: The trainer's step it was played at; None outside of training.
        tokens: What the policy sampled and was given, from a policy that knows tokens.
    """

    reward: float | None
    output: list[Message]
    components: dict[str, float] = field(default_factory=dict)
    error: RolloutError | None = None
    stop_reason: StopReason = "done"
    task: Task = field(default_factory=lambda: Task([]))
    tools: list[ToolSchema] = field(default_factory=list)
    turns: int = 0
    tool_calls: int = 0
    tool_errors: int = 0
    seconds: float = 0.0
    step: int | None = None
    tokens: TokenTrack | None = None

    @property
    def last_reply(self) -> str:
        """The text of the last assistant message, or "" when there is none."""
        return last_reply(self.output)

    @property
    def rates(self) -> dict[str, float]:
        """What trainers log of every rollout beside its reward and components; the same names for all environments."""
        return {
            "turns": float(self.turns),
            "tool_calls": float(self.tool_calls),
            "tool_errors": float(self.tool_errors),
            "errors": float(self.error is not None),
            "timeouts": float(self.stop_reason == "timeout"),
            "truncations": float(self.stop_reason in ("max_turns", "length")),
            "broken_tokens": float(self.tokens is not None and self.tokens.broken is not None),
        }

    def to_json(self) -> str:
        """One line of rollout JSONL: `{"reward": 1.0, "output": [...], ...}`."""
        return json.dumps(vars(self), default=vars, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Rollout:
        """The rollout `to_json` wrote; only `reward` and `output` are required.

        Raises:
            TaskError: The line is not a rollout.
        """
        try:
            row: dict[str, Any] = json.loads(line)
            if row.get("error"):
                row["error"] = RolloutError(**row["error"])
            if "task" in row:
                row["task"] = Task(**row["task"])
            if row.get("tokens"):
                row["tokens"] = TokenTrack(**row["tokens"])
            return cls(**row)
        except (ValueError, TypeError, AttributeError) as error:
            raise TaskError(f"not a rollout ({error}); expected an object with 'reward' and 'output'") from error

    def raise_for_error(self) -> Rollout:
        """The rollout itself, or EpisodeError when something broke."""
        if self.error is not None:
            raise EpisodeError(f"{self.error.kind}: {self.error.message}")
        return self


def write_rollouts(path: str | Path, rollouts: Iterable[Rollout]) -> None:
    """Append rollouts to a JSONL file, one a line."""
    # A lone surrogate becomes its own JSON escape, so that no text a model wrote can fail to be written.
    with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(rollout.to_json() + "\n" for rollout in rollouts)


def read_rollouts(path: str | Path) -> Iterator[Rollout]:
    """Yield the rollouts of a JSONL file; empty lines are skipped.

    Raises:
        TaskError: A line is not a rollout; the message names file and line.
    """
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield Rollout.from_json(line)
            except TaskError as error:
                raise TaskError(f"{path}:{number}: {error}") from error
