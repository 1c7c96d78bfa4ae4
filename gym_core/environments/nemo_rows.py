"""NeMo Gym dataset rows: the input of their `responses_create_params` as chat messages.

The row format is `NeMoGymResponseCreateParamsNonStreaming` of nemo-gym 0.7, a strict copy of OpenAI's
`responses.create`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gym_core.errors import TaskError
from gym_core.messages import Message, ToolSchema, assistant, system, tool_call, user

NEMO_FIELD = "responses_create_params"


def chat_messages(params: Mapping[str, Any]) -> list[Message]:
    """The conversation in a request of the Responses API.

    `instructions` and the developer role become system messages, because chat templates drop roles they do not know;
    prefilled `function_call` items join the assistant message before them; reasoning becomes `reasoning_content`.

    Raises:
        TaskError: The input is neither a string nor a list of known items.
    """
    if not isinstance(params, Mapping) or "input" not in params:
        raise TaskError(f"{NEMO_FIELD!r} must be an object with 'input', not {params!r}")
    messages: list[Message] = [system(params["instructions"])] if params.get("instructions") else []
    if isinstance(params["input"], str):
        return [*messages, user(params["input"])]
    if not isinstance(params["input"], list):
        raise TaskError(f"'input' must be a string or a list of items, not {params['input']!r}")
    for item in params["input"]:
        if not isinstance(item, Mapping):
            raise TaskError(f"an input item must be an object, not {item!r}")
        try:
            _add(item, messages)
        except (KeyError, TypeError, AttributeError) as error:
            raise TaskError(f"an input item lacks {error}, or has it in the wrong form: {item!r}") from error
    return messages


def chat_tools(params: Mapping[str, Any]) -> list[ToolSchema]:
    """The flat tools of a request in the chat format; hosted tools, which are not functions, are left out."""
    tools = [tool for tool in params.get("tools") or [] if tool["type"] == "function"]
    return [{"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}} for tool in tools]


def _add(item: Mapping[str, Any], messages: list[Message]) -> None:
    match item.get("type") or "message":
        case "message" if item["role"] == "assistant":
            turn = _open_assistant(messages)
            turn["content"] = f"{turn['content'] or ''}{_text(item['content'])}"
        case "message":
            role = {"developer": "system"}.get(item["role"], item["role"])
            messages.append({"role": role, "content": _content(item["content"])})
        case "function_call":
            call = tool_call(item["name"], item["arguments"], id=item["call_id"])
            _open_assistant(messages).setdefault("tool_calls", []).append(call)
        case "function_call_output":
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": _content(item["output"])})
        case "reasoning":
            turn = _open_assistant(messages)
            thoughts = [part["text"] for part in item.get("summary") or item.get("content") or []]
            turn["reasoning_content"] = "\n".join([*filter(None, [turn.get("reasoning_content")]), *thoughts])
        case unknown:
            known = "message, function_call, function_call_output, reasoning"
            raise TaskError(f"an input item has the type {unknown!r}, expected one of {known}")


def _open_assistant(messages: list[Message]) -> Message:
    """The assistant message that the next item of the same turn belongs to."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append(assistant())
    return messages[-1]


def _text(content: Any) -> str:
    """The text of an assistant message."""
    said = _content(content)
    if not isinstance(said, str):
        raise TaskError(f"an assistant message holds text only, not {content!r}")
    return said


def _content(content: Any) -> Any:
    """A string where all parts are text; chat content parts otherwise."""
    if isinstance(content, str):
        return content
    parts = [_part(part) for part in content]
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    match part["type"]:
        case "input_text" | "output_text" | "text":
            return {"type": "text", "text": part["text"]}
        case "refusal":  # chat templates do not know it
            return {"type": "text", "text": part["refusal"]}
        case "input_image":
            return {"type": "image_url", "image_url": {"url": part["image_url"], "detail": part.get("detail", "auto")}}
        case unknown:
            known = "input_text, output_text, text, refusal, input_image"
            raise TaskError(f"a content part has the type {unknown!r}, expected one of {known}")
