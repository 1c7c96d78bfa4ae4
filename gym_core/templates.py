"""Chat templates: the tokens of an opening, and of what an environment adds, without rendering the history again."""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Callable, Collection, Sequence
from functools import cached_property, lru_cache
from itertools import takewhile
from typing import Any, NamedTuple

from gym_core.errors import TemplateError
from gym_core.messages import Message, ToolSchema, assistant, tool_call, user

_SENTINEL = "sentinel7c1f"
_CACHED = 4096


class Rendered(NamedTuple):
    """A text and its tokens."""

    text: str
    ids: tuple[int, ...]


class ChatTemplate:
    """A tokenizer's chat template, used so that history is never rendered or tokenised twice.

    What follows an assistant turn (its end token, the messages of the environment, the opening of the next turn) is
    rendered after a short made-up history. This is right where it does not depend on the history, and where it starts
    at a token that no tokenizer merges with text before it. Both are tried once, for tool results and for user turns.

    Control tokens in what tools and users say (special tokens, and added tokens the template writes itself) get a
    space after their first character, so that no text can pose as a turn.

    Usable from any thread: it has its own copy of the tokenizer, behind a lock, since tokenizers are not.

    Args:
        tokenizer: Anything with `apply_chat_template`, `encode`, `decode` and `get_added_vocab`.
        stop_ids: Tokens at which the engine ends a turn, beside the tokenizer's own.
        kwargs: For the template, such as `{"enable_thinking": False}`.

    Attributes:
        user_problem: Why user turns can't be continued with this template; None when they can.
        tool_problem: The same for the result of a tool.
        parallel_problem: The same for the results of several tools called in one turn.
    """

    def __init__(self, tokenizer: Any, *, stop_ids: Collection[int] = (), kwargs: dict[str, Any] | None = None) -> None:
        self._tokenizer = copy.deepcopy(tokenizer)
        self._lock = threading.RLock()
        self._kwargs = kwargs or {}
        added: dict[str, int] = self._tokenizer.get_added_vocab()
        self._boundary = _any_of(added)
        self._control = _any_of(_control_tokens(self._tokenizer, added))
        self._prompts: Callable[[str], Rendered] = lru_cache(_CACHED)(self._render_prompt)
        self._suffixes: Callable[[str], Rendered] = lru_cache(_CACHED)(self._render_suffix)
        self._closed: Callable[[str], str] = lru_cache(_CACHED)(self._render_closed)
        self._stop_ids = {*stop_ids, self._tokenizer.eos_token_id}
        self.user_problem = self._certify([], [user("probe")])
        self.tool_problem = self._certify(["probe"], _RESULTS[:1])
        self.parallel_problem = self._certify(["probe", "probe"], _RESULTS)

    def prompt(self, messages: Sequence[Message], tools: Sequence[ToolSchema]) -> Rendered:
        """The opening, up to where the policy begins to write."""
        return self._prompts(json.dumps([messages, tools]))

    def continuation(self, turn: Message, added: Sequence[Message], *, sampled: Sequence[int]) -> Rendered:
        """What follows a turn of the policy, up to where it begins to write again.

        Args:
            turn: The assistant message before.
            added: What the environment said.
            sampled: The tokens of that turn. A token of the template that ends it is left out where one was sampled.

        Raises:
            TemplateError: The template can't do it; the message says why.
        """
        names = [call["function"]["name"] for call in turn.get("tool_calls", ())]
        problem = self.user_problem if not names else self.tool_problem if len(names) == 1 else self.parallel_problem
        if problem is not None:
            raise TemplateError(problem)
        suffix = self._suffixes(json.dumps([names, added]))
        if not self.ends_turn(sampled):
            return suffix
        # Where the next role's token is what ends a turn, it is in the suffix, and not its first token.
        last = suffix.ids.index(sampled[-1]) if sampled[-1] in suffix.ids else 0
        return Rendered(suffix.text, suffix.ids[last + 1 :])

    @property
    def can_parse(self) -> bool:
        """Whether the tokenizer says how a response is to be parsed; without, all that is sampled is text."""
        return self._response_template is not None

    @property
    def eos_id(self) -> int:
        """The token that ends a sequence."""
        return int(self._tokenizer.eos_token_id)

    def ends_turn(self, ids: Sequence[int]) -> bool:
        """Whether the last token is one that ends a turn."""
        return bool(ids) and ids[-1] in self._stop_ids

    def parse(self, ids: Sequence[int], *, opened: str, tools: Sequence[ToolSchema], turn: int) -> Message:
        """The message that sampled tokens are, by the tokenizer's response template where it has one.

        A tool call that can't be parsed stays a call, with its raw text for arguments, so that it is answered.

        Args:
            ids: The sampled tokens.
            opened: The text before them.
            tools: What the policy can call.
            turn: Numbers the ids of the calls.
        """
        with self._lock:
            if self._response_template is None:
                return assistant(self._tokenizer.decode(ids, skip_special_tokens=True))
            said: str = self._tokenizer.decode(ids)
            try:
                parsed = self._tokenizer.parse_response(said, prefix=opened, tools=list(tools) or None)
            except (ValueError, TypeError, KeyError):
                parsed = None
            if parsed is None or not _are_calls(parsed.get("tool_calls")):
                return self._malformed(said, ids, turn)
        calls = [
            tool_call(call["function"]["name"], _json(call["function"].get("arguments")), id=f"call_{turn}_{i}")
            for i, call in enumerate(parsed.get("tool_calls") or ())
        ]
        message = assistant((parsed.get("content") or "").removesuffix(self._tokenizer.eos_token), tool_calls=calls)
        if reasoning := parsed.get("reasoning_content") or parsed.get("thinking"):
            message["reasoning_content"] = reasoning
        return message

    def _malformed(self, said: str, ids: Sequence[int], turn: int) -> Message:
        opening = self._response_template.get("fields", {}).get("tool_calls", {}).get("open_pattern")
        call = re.search(opening, said) if opening else None
        if call is None:
            return assistant(self._tokenizer.decode(ids, skip_special_tokens=True))
        raw = said[call.end() :]
        named = call.groupdict().get("name") or next(iter(re.findall(r'"name"\s*:\s*"([^"]+)"', raw)), "")
        return assistant(said[: call.start()], tool_calls=[tool_call(named, raw, id=f"call_{turn}_0")])

    @cached_property
    def _response_template(self) -> Any:
        return getattr(self._tokenizer, "response_template", None)

    def _render_prompt(self, key: str) -> Rendered:
        messages, tools = json.loads(key)
        with self._lock:
            rendered = self._render(messages, tools=tools or None, add_generation_prompt=True)
            return Rendered(rendered, self._encode(rendered))

    def _render_suffix(self, key: str) -> Rendered:
        names, added = json.loads(key)
        with self._lock:
            suffix = self._suffix([user("x")], names, [self._neutral(message) for message in _with_ids(added)])
            return Rendered(suffix, self._encode(suffix))

    def _suffix(
        self, history: Sequence[Message], names: Sequence[str], added: Sequence[Message], tools: Any = None
    ) -> str:
        """The text from the end of a turn on, in which the tools of these names were called.

        Raises:
            TemplateError: The template drops the turn, or nothing marks its end.
        """
        turn = _dummy_turn(names)
        after = self._tail([*history, turn, *added], tools=tools, add_generation_prompt=True)
        if not names:  # the turn's text has just ended
            after = after.lstrip()
            start = 0 if self._boundary.match(after) else None
        else:  # the call has yet to be closed, as it is where nothing follows
            shared = _common_start(self._closed(json.dumps([*history, turn])), after)
            start = max((found.start() for found in self._boundary.finditer(shared)), default=None)
        if start is None:
            raise TemplateError("no special token ends the assistant's turn")
        return after[start:]

    def _render_closed(self, key: str) -> str:
        return self._tail(json.loads(key))

    def _tail(self, messages: Sequence[Message], **options: Any) -> str:
        """What the template has behind the last of the sentinels."""
        _, sentinel, tail = self._render(messages, **options).rpartition(_SENTINEL)
        if not sentinel:
            raise TemplateError("it does not show the assistant's turn")
        return tail

    def _certify(self, names: Sequence[str], added: Sequence[Message]) -> str | None:
        """Why what follows a turn can't be rendered alone; None when it can."""
        try:
            histories = [*_HISTORIES, [user("x"), _dummy_turn(names), *added]] if names else _HISTORIES
            suffixes = {
                self._suffix(history, names, added, tools) for history in histories for tools in (None, [_PROBE_TOOL])
            }
            if len(suffixes) > 1:
                raise TemplateError("what follows a turn depends on the conversation before it")
            whole = self._render([*_HISTORIES[0], _dummy_turn(names), *added], add_generation_prompt=True)
            self._check_tokens(whole, suffixes.pop())
        except Exception as error:  # templates raise whatever they like
            return f"the chat template can't be continued: {error or type(error).__name__}"
        return None

    def _check_tokens(self, whole: str, suffix: str) -> None:
        ids, start = self._encode(suffix), whole.removesuffix(suffix)
        if self._encode(start) + ids != self._encode(whole):
            raise TemplateError("its tokens are others alone than in the conversation")
        self._stop_ids.add(ids[0])

    def _render(self, messages: Sequence[Any], **options: Any) -> str:
        shown = [_with_argument_objects(message) for message in messages]
        return str(self._tokenizer.apply_chat_template(shown, tokenize=False, **options, **self._kwargs))

    def _encode(self, rendered: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(rendered, add_special_tokens=False))

    def _neutral(self, message: Message) -> Message:
        content = message["content"]
        if isinstance(content, str):
            return {**message, "content": self._spaced(content)}
        parts = [{**p, "text": self._spaced(p["text"])} if p.get("type") == "text" else p for p in content or ()]
        return {**message, "content": parts}

    def _spaced(self, said: str) -> str:
        return self._control.sub(lambda token: f"{token[0][0]} {token[0][1:]}", said)


def _dummy_turn(names: Sequence[str]) -> Message:
    """An assistant turn that ends in the sentinel; templates name the tool of a result after the call before it."""
    if not names:
        return assistant(_SENTINEL)
    arguments = json.dumps({"x": _SENTINEL})
    return assistant("", tool_calls=[tool_call(name, arguments, id=f"call{i}") for i, name in enumerate(names)])


def _with_ids(added: Sequence[Message]) -> list[Message]:
    """Results with the ids of the dummy turn's calls."""
    return [{**m, "tool_call_id": f"call{i}"} if m["role"] == "tool" else m for i, m in enumerate(added)]


def _common_start(one: str, other: str) -> str:
    return "".join(a for a, b in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


_PROBE_TOOL: ToolSchema = {
    "type": "function",
    "function": {"name": "probe", "description": "Probe.", "parameters": {"type": "object", "properties": {}}},
}
_RESULTS: list[Message] = [
    {"role": "tool", "tool_call_id": f"call{i}", "name": "probe", "content": f"result {i}"} for i in range(2)
]
_HISTORIES: list[list[Message]] = [
    [user("x")],
    [user("What?"), assistant("That."), user("And then?")],
    [user("What?"), assistant("<think>\nHm.\n</think>\n\nThat."), user("And then?"), assistant("This."), user("Oh.")],
]


def _control_tokens(tokenizer: Any, added: Collection[str]) -> list[str]:
    special = {str(token) for token in getattr(tokenizer, "all_special_tokens", ())}
    template = str(getattr(tokenizer, "chat_template", ""))
    return [token for token in {*added, *special} if token.strip() and (token in special or token in template)]


def _any_of(tokens: Collection[str]) -> re.Pattern[str]:
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def _with_argument_objects(message: Message) -> dict[str, Any]:
    """Templates print the arguments of a call as the object they are."""
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
    except ValueError:
        return {"malformed": arguments}


def _json(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)


def _are_calls(calls: Any) -> bool:
    return calls is None or all(
        isinstance(c, dict) and isinstance(c.get("function", {}).get("name"), str) for c in calls
    )
