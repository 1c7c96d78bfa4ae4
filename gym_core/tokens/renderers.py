"""Renderers: messages rendered by a tokenizer's chat template, and the rendered text as tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from typing import Any

from gym_core.messages import Message, text

_SURROGATE = re.compile("[\ud800-\udfff]")


class Renderer:
    """The operations that `ChatTemplate` needs of a tokenizer; for one thread at a time.

    Args:
        tokenizer: Object with `apply_chat_template`, `encode` and `get_added_vocab`.
        kwargs: Arguments for the template.
        reserved: Words that no environment may write, in addition to the control tokens.

    Attributes:
        mark: Pattern of the tokens that are not merged with the text around them.
        mark_ids: Ids of these tokens.
    """

    def __init__(self, tokenizer: Any, kwargs: dict[str, Any], *, reserved: Collection[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._kwargs = kwargs
        added: dict[str, int] = tokenizer.get_added_vocab()
        marks = {token: number for token, number in added.items() if token.strip()}
        self.mark = _any_of(marks)
        self.mark_ids = frozenset(marks.values())
        self._control = _any_of([*_control_tokens(tokenizer, marks), *reserved])

    def render(self, messages: Sequence[Message], **options: Any) -> str:
        """The text of a conversation; lone surrogates, which no tokenizer encodes, become U+FFFD."""
        shown = [_with_argument_objects(message) for message in messages]
        rendered = self._tokenizer.apply_chat_template(shown, tokenize=False, **options, **self._kwargs)
        return _SURROGATE.sub("\ufffd", str(rendered))

    def encode(self, rendered: str) -> tuple[int, ...]:
        """The tokens of a text, with no special tokens added."""
        return tuple(self._tokenizer.encode(rendered, add_special_tokens=False))

    def neutral(self, message: Message) -> Message:
        """A message whose text has no control tokens; its parts are joined if all of them are text."""
        content = message["content"]
        neutral: Message = {**message, "content": self.spaced(text(message))}
        if isinstance(content, list) and any(part.get("type") != "text" for part in content):
            neutral["content"] = [
                {**part, "text": self.spaced(part["text"])} if part.get("type") == "text" else part for part in content
            ]
        if "name" in message:
            neutral["name"] = self.spaced(message["name"])
        return neutral

    def spaced(self, said: str) -> str:
        """A text with a space after the first character of every control token."""
        while self._control.search(said):  # the rest of a token may be another token
            said = self._control.sub(lambda token: f"{token[0][0]} {token[0][1:]}" if len(token[0]) > 1 else " ", said)
        return said


def _control_tokens(tokenizer: Any, added: Collection[str]) -> list[str]:
    """Special tokens, and added tokens that the template writes itself."""
    special = {str(token) for token in getattr(tokenizer, "all_special_tokens", ())}
    special |= {str(token) for token in getattr(tokenizer, "added_tokens_decoder", {}).values() if token.special}
    template = str(getattr(tokenizer, "chat_template", ""))
    return [t for t in {*added, *special} if t.strip() and (t in special or (len(t) > 1 and t in template))]


def _any_of(tokens: Collection[str]) -> re.Pattern[str]:
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def _with_argument_objects(message: Message) -> dict[str, Any]:
    """Templates expect the arguments of a call as an object."""
    shown: dict[str, Any] = dict(message)
    if message.get("tool_calls"):
        shown["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": _object(call["function"]["arguments"])}}
            for call in message["tool_calls"]
        ]
    return shown


def _object(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return {"malformed": arguments}
