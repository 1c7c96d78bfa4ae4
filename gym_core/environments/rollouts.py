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
        extra: Fields of a line that this package does not know.
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
        """One line of rollout JSONL: `{"reward": 1.0, "output": [...], ...}`.

        It is strict JSON: a number that is not finite is written as text ("NaN", "Infinity", "-Infinity"), and an
        object that JSON does not know by its `repr`.
        """
        try:
            return json.dumps(vars(self), default=_fields, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError):
            return json.dumps(_strict(vars(self)), ensure_ascii=False, allow_nan=False)

    def raise_for_error(self) -> Rollout:
        """The rollout itself, or EpisodeError when something broke."""
        if self.error is not None:
            raise EpisodeError(f"{self.error.kind}: {self.error.message}")
        return self


def _fields(value: Any) -> Any:
    """The fields of what a rollout is made of."""
    if isinstance(value, Task | TokenTrack | RolloutError):
        return vars(value)
    raise TypeError(f"{value!r} is no JSON")


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
