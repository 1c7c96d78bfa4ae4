"""Policies: functions that turn a conversation into the next assistant message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from gym_core.messages import Message, ToolSchema, assistant, message_problem
from gym_core.tokens import TokenTrack


@dataclass(frozen=True, slots=True)
class Completion:
    """One assistant message.

    Attributes:
        message: Assistant message.
        finish_reason: Reason why it ended; "length" if it was cut off.
        tokens: All tokens of the rollout so far, if the policy records them.
    """

    message: Message
    finish_reason: Literal["stop", "tool_calls", "length"] = "stop"
    tokens: TokenTrack | None = None


def completion_problem(completion: object) -> str | None:
    """Say what is wrong with the result of a policy; None if an episode can take it."""
    if not isinstance(completion, Completion):
        return f"a policy must return a Completion, not {completion!r}"
    message: Any = completion.message
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return f"a policy must write an assistant message, not {message!r:.200}"
    if problem := message_problem(message):
        return f"a policy must write an assistant message: it {problem}"
    if not isinstance(completion.tokens, TokenTrack | None):
        return f"the tokens of a completion must be a TokenTrack or None, not {completion.tokens!r}"
    return None


class Policy(Protocol):
    """The seam between environments, which know messages, and engines, which know tokens."""

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema], /) -> Completion:
        """Write the next assistant message; raises PolicyError on failure."""
        ...


class ScriptedPolicy:
    """Plays the given assistant messages, then empty ones; for tests and docs.

    Args:
        replies: Texts or whole messages, in order.
    """

    def __init__(self, replies: Iterable[str | Message]) -> None:
        self._replies = iter(replies)

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema], /) -> Completion:
        reply = next(self._replies, "")
        message = assistant(reply) if isinstance(reply, str) else reply
        return Completion(message, "tool_calls" if message.get("tool_calls") else "stop")
