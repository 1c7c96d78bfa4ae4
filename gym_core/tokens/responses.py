"""Responses: sampled tokens read as an assistant message."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from typing import Any

from gym_core.messages import Message, ToolCall, ToolSchema, assistant, tool_call


class ResponseParser:
    """Reads sampled tokens by the tokenizer's response template; without one, everything is text.

    Args:
        tokenizer: Object with `decode`, and with `parse_response` if it has a `response_template`.
        stop_ids: Tokens that end a turn; looked up at every call.

    Raises:
        ValueError: The response template is invalid.
    """

    def __init__(self, tokenizer: Any, stop_ids: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self._stop_ids = stop_ids
        template = getattr(tokenizer, "response_template", None)
        self.can_parse = template is not None
        self._template = None if template is None else _compiled(tokenizer, template)
        self._opening = _call_opening(template or {})

    def __call__(self, ids: Sequence[int], *, opened: str, tools: Sequence[ToolSchema], turn: int) -> Message:
        """The message; see `ChatTemplate.parse`."""
        ended = bool(ids) and ids[-1] in self._stop_ids
        if not self.can_parse:
            return assistant(self._tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=True))
        said: str = self._tokenizer.decode(ids)
        end: str = self._tokenizer.decode(ids[-1:]) if ended else ""
        try:
            parsed = self._tokenizer.parse_response(said, self._template, prefix=opened, tools=list(tools) or None)
            calls = _calls(parsed, turn)
        # A model can write anything; deeply nested JSON raises RecursionError.
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            before, call = self._malformed(said.removesuffix(end), turn)
            return assistant(before, tool_calls=[call] if call else [])
        message = assistant((parsed.get("content") or "").removesuffix(end), tool_calls=calls)
        if reasoning := parsed.get("reasoning_content") or parsed.get("thinking"):
            message["reasoning_content"] = reasoning
        return message

    def _malformed(self, said: str, turn: int) -> tuple[str, ToolCall | None]:
        """The text before the first call, and everything after it as one call."""
        call = self._opening.search(said)
        if call is None:
            return said, None
        raw = said[call.end() :]
        named = call.groupdict().get("name") or next(iter(re.findall(r'"name"\s*:\s*"([^"]+)"', raw)), "")
        return said[: call.start()], tool_call(named, raw, id=f"call_{turn}_0")


def _compiled(tokenizer: Any, template: dict[str, Any]) -> Any:
    """The response template with its patterns compiled; transformers would compile them for every response."""
    return getattr(tokenizer.get_response_parser(template, prefix=""), "_spec", template)


def _call_opening(template: dict[str, Any]) -> re.Pattern[str]:
    """The openings of a call; a response template has a pattern, a text, or a list of texts."""
    field = template.get("fields", {}).get("tool_calls", {})
    texts = field.get("open", ())
    literal = "|".join(map(re.escape, [texts] if isinstance(texts, str) else texts))
    return re.compile(field.get("open_pattern") or literal or "(?!)", re.DOTALL)


def _calls(parsed: dict[str, Any], turn: int) -> list[ToolCall]:
    calls = []
    for i, call in enumerate(parsed.get("tool_calls") or ()):
        function = call["function"]
        if not isinstance(function["name"], str):
            raise TypeError(f"the name of a tool must be text, not {function['name']!r}")
        calls.append(tool_call(function["name"], _json(function.get("arguments")), id=f"call_{turn}_{i}"))
    return calls


def _json(arguments: Any) -> str:
    if isinstance(arguments, str):
        return arguments
    written = json.dumps({} if arguments is None else arguments, ensure_ascii=False)
    return written.encode(errors="backslashreplace").decode()  # a lone surrogate stays an escape
