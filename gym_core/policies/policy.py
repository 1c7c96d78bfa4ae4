"""Policies: functions that turn a conversation into the next assistant message."""

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
    if (
        not isinstance(message, dict)
        or message.get("role") != "assistant"
        or not _is_content(message.get("content", 0))
    ):
        return (
            f"a policy must write an assistant message whose content is text, a list of parts or None, not {message!r}"
        )
    calls = message.get("tool_calls")
    if calls and not (isinstance(calls, list) and all(map(_is_call, calls))):
        return f"a policy must write an assistant message whose calls have id, name and arguments, not {message!r}"
    if not isinstance(completion.tokens, TokenTrack | None):
        return f"the tokens of a completion must be a TokenTrack or None, not {completion.tokens!r}"
    return None


def _is_content(content: Any) -> bool:
    return isinstance(content, str | None) or (isinstance(content, list) and all(map(_is_part, content)))


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and (isinstance(part.get("text"), str) or part.get("type", "text") != "text")


def _is_call(call: Any) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return False
    return all(isinstance(value, str) for value in (call.get("id"), function.get("name"), function.get("arguments")))


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
