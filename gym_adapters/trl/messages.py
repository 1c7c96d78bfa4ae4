"""Messages in TRL's form and in gym_core's.

TRL's tool calls have no ids, and their arguments are an object; its tool messages only name the tool.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from gym_core import Message, assistant, tool_call


def to_trl(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages for TRL's `prompt` column; chat templates expect the arguments of a call as an object."""
    return [_with_argument_objects(dict(message)) for message in messages]


def from_trl(prompt: Sequence[Any] | str, completion: Sequence[Any] | str) -> list[Message]:
    """The whole conversation in the OpenAI format: calls get ids, and tool messages the id of their call."""
    messages = [*_as_messages(prompt, "user"), *_as_messages(completion, "assistant")]
    messages = [{key: value for key, value in message.items() if key != "gym_row"} for message in messages]
    ids: Iterator[str] = iter(())
    converted: list[Any] = []
    for position, message in enumerate(messages):
        if message.get("tool_calls"):
            calls = [_call(call, f"call_{position}_{i}") for i, call in enumerate(message["tool_calls"])]
            ids = iter([call["id"] for call in calls])
            converted.append(assistant(message.get("content"), tool_calls=calls))
        elif message["role"] == "tool" and not message.get("tool_call_id"):
            converted.append({**message, "tool_call_id": next(ids, "")})
        else:
            converted.append(message)
    return converted


def _as_messages(turns: Any, role: str) -> list[dict[str, Any]]:
    return [{"role": role, "content": turns}] if isinstance(turns, str) else list(turns)


def _call(call: dict[str, Any], default_id: str) -> Any:
    function = call.get("function", call)
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    return tool_call(function["name"], text, id=call.get("id") or default_id)


def _with_argument_objects(message: dict[str, Any]) -> dict[str, Any]:
    if not message.get("tool_calls"):
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": json.loads(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}
