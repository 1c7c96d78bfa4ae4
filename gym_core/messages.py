"""Chat messages and tool calls in the OpenAI format, as plain dicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NotRequired, TypedDict

ToolSchema = dict[str, Any]
"""A tool in the OpenAI function-calling format: `{"type": "function", "function": {"name", "parameters", ...}}`."""


class FunctionCall(TypedDict):
    """What a tool call asks for; `arguments` is the JSON text exactly as the policy wrote it."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """One call of an assistant message; its tool message carries the same id."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class Message(TypedDict):
    """One message; `content` is text, a list of content parts, or None beside tool calls."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None
    tool_calls: NotRequired[list[ToolCall]]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]
    reasoning_content: NotRequired[str]


def system(content: str) -> Message:
    """A system message."""
    return {"role": "system", "content": content}


def user(content: str) -> Message:
    """A user message."""
    return {"role": "user", "content": content}


def assistant(content: str | None = None, *, tool_calls: Sequence[ToolCall] = ()) -> Message:
    """An assistant message, with or without tool calls."""
    message: Message = {"role": "assistant", "content": content}
    if tool_calls:
        message["tool_calls"] = list(tool_calls)
    return message


def tool_call(name: str, arguments: str = "{}", *, id: str = "call_0") -> ToolCall:
    """A call of the tool `name`, with its arguments as JSON text."""
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def text(message: Message) -> str:
    """The text of a message: its content, or the text parts joined when that is a list."""
    content = message["content"] or ""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def last_reply(messages: Sequence[Message]) -> str:
    """The text of the last assistant message, or "" when there is none."""
    return next((text(message) for message in reversed(messages) if message["role"] == "assistant"), "")
