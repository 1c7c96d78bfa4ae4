"""Chat messages and tool calls in the OpenAI format, as plain dicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NotRequired, TypedDict

ToolSchema = dict[str, Any]
"""A tool in the OpenAI function-calling format: `{"type": "function", "function": {"name", "parameters", ...}}`."""


_ROLES = ("system", "user", "assistant", "tool")


class FunctionCall(TypedDict):
    """The name and arguments of a tool call; `arguments` is the JSON text exactly as the policy wrote it."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """One tool call of an assistant message; the tool message that answers it has the same id."""

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


def message_problem(message: Any) -> str | None:
    """Say what is wrong with a message, to complete a sentence that starts with its position; None if it is valid."""
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        return f"must be an object with a role ({', '.join(_ROLES)}), not {message!r:.200}"
    if "content" not in message or not _is_content(message["content"]):
        return f"must have content that is text, a list of parts or None, not {message.get('content', 'none')!r:.200}"
    for name in ("tool_call_id", "name", "reasoning_content"):
        if not isinstance(message.get(name), str | None):
            return f"must have {name} as text, not {message[name]!r:.200}"
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list) or not all(map(_is_call, calls)):
        return f"must have tool_calls with id, name and arguments as text, not {calls!r:.200}"
    if calls and message["role"] != "assistant":
        return f"can't call tools as {message['role']}"
    return None


def conversation_problem(messages: Sequence[Any]) -> str | None:
    """Say which message of a conversation is not valid, and why; None if all are."""
    problems = ((position, message_problem(message)) for position, message in enumerate(messages))
    return next((f"message {position} {problem}" for position, problem in problems if problem), None)


def _is_content(content: Any) -> bool:
    if isinstance(content, list):
        return all(isinstance(part, dict) and isinstance(part.get("type"), str) and _is_part(part) for part in content)
    return content is None or isinstance(content, str)


def _is_part(part: dict[str, Any]) -> bool:
    return part["type"] != "text" or isinstance(part.get("text"), str)


def _is_call(call: Any) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return False
    return all(isinstance(value, str) for value in (call.get("id"), function.get("name"), function.get("arguments")))


def text(message: Message) -> str:
    """The text of a message: its content, or the joined text parts if the content is a list."""
    content = message["content"] or ""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def last_reply(messages: Sequence[Message]) -> str:
    """The text of the last assistant message, or "" when there is none."""
    return next((text(message) for message in reversed(messages) if message["role"] == "assistant"), "")
