"""Rollouts: finished episodes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gym_core.environments.tasks import Task
from gym_core.errors import EpisodeError
from gym_core.messages import Message, ToolSchema, last_reply
from gym_core.tokens import TokenTrack

StopReason = Literal["done", "max_turns", "length", "timeout", "error"]
"""Why an episode ended: the environment or the policy was done, a limit was reached, or something broke."""

ErrorKind = Literal["setup", "policy", "tool", "respond", "replay", "verify", "close", "timeout"]
"""The part of the episode that broke."""


@dataclass(frozen=True)
class RolloutError:
    """What broke an episode: the part that failed, and a sentence."""

    kind: ErrorKind
    message: str


@dataclass(frozen=True)
class Rollout:
    """A finished episode.

    Attributes:
        reward: None when the episode broke, and only then: a failure is never scored.
        output: The whole conversation in the OpenAI chat format, opening included.
        components: Named parts of the reward, if the verifier returned any.
        error: What broke. Every rollout without a reward has one; a rollout that broke only in `close` keeps its
            reward.
        stop_reason: Reason why the episode ended.
        task: The task that was played.
        tools: Tool schemas that the policy saw.
        turns: Number of assistant messages that the policy wrote.
        tool_calls: Number of tool calls that the policy made.
        tool_errors: Number of calls that were refused: unknown, malformed, timed out, or a ToolError.
        seconds: Wall time from the opening to the verdict.
        step: The trainer's step in which it was played; None outside of training.
        tokens: Tokens that the policy sampled and was given, if the policy records tokens.
        extra: Unknown fields of the line that it was read from.
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
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def last_reply(self) -> str:
        """The text of the last assistant message, or "" when there is none."""
        return last_reply(self.output)

    @property
    def rates(self) -> dict[str, float]:
        """The numbers that trainers log beside reward and components, under the same names for all environments."""
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
        """One line of rollout JSONL: `{"reward": 1.0, "output": [...], ...}`.

        It is strict JSON: numbers that are not finite are written as text ("NaN", "Infinity", "-Infinity"), and objects
        that JSON does not know as their `repr`.
        """
        try:
            return json.dumps(vars(self), default=_fields, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError):
            return json.dumps(_strict(vars(self)), ensure_ascii=False, allow_nan=False)

    def raise_for_error(self) -> Rollout:
        """Return the rollout itself, or raise EpisodeError if something broke."""
        if self.error is not None:
            raise EpisodeError(f"{self.error.kind}: {self.error.message}")
        return self


def _fields(value: Any) -> Any:
    """The fields of an object inside a rollout."""
    if isinstance(value, Task | TokenTrack | RolloutError):
        return vars(value)
    raise TypeError(f"{value!r} is not JSON")


def _strict(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return _strict(vars(value)) if isinstance(value, Task | TokenTrack | RolloutError) else repr(value)
