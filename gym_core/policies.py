"""Policies: whatever turns a conversation into the next assistant message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from gym_core.messages import Message, ToolSchema, assistant
from gym_core.tokens import TokenTrack


@dataclass(frozen=True, slots=True)
class Completion:
    """One assistant message.

    Attributes:
        message: What was written.
        finish_reason: Why it ended; "length" when it was cut off.
        tokens: All tokens of the rollout so far, from a policy that knows them.
    """

    message: Message
    finish_reason: Literal["stop", "tool_calls", "length"] = "stop"
    tokens: TokenTrack | None = None


class Policy(Protocol):
    """The seam between environments, which know messages, and engines, which know tokens."""

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema], /) -> Completion:
        """Write the next assistant message; raises PolicyError when it can't be had."""
        ...


class ScriptedPolicy:
    """Plays given assistant messages, then empty ones: the policy of tests and docs.

    Args:
        replies: Texts or whole messages, in order.
    """

    def __init__(self, replies: Iterable[str | Message]) -> None:
        self._replies = iter(replies)

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema], /) -> Completion:
        reply = next(self._replies, "")
        message = assistant(reply) if isinstance(reply, str) else reply
        return Completion(message, "tool_calls" if message.get("tool_calls") else "stop")
