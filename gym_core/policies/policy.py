"""Policies: whatever turns a conversation into the next assistant message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

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


def completion_problem(completion: object) -> str | None:
    """What is wrong with what a policy returned; None when an episode can take it."""
    if not isinstance(completion, Completion):
        return f"a policy must return a Completion, not {completion!r}"
    message: Any = completion.message
    calls = message.get("tool_calls") or [] if isinstance(message, dict) else []
    if not isinstance(message, dict) or message.get("role") != "assistant" or not all(map(_is_call, calls)):
        return f"a policy must write an assistant message whose calls have id, name and arguments, not {message!r}"
    return None


def _is_call(call: Any) -> bool:
    function = call.get("function", {})
    return all(isinstance(value, str) for value in (call.get("id"), function.get("name"), function.get("arguments")))


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
