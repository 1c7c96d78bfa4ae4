"""Chat templates: the tokens of an opening and of an environment's additions, without rendering history again."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from itertools import islice, takewhile
from typing import Any, NamedTuple

from gym_core.errors import TemplateError
from gym_core.messages import Message, ToolSchema, assistant, tool_call, user
from gym_core.tokens.renderers import Renderer
from gym_core.tokens.responses import ResponseParser

_SENTINEL = "sentinel7c1f"
_CACHED_PROMPTS, _CACHED_SUFFIXES = 64, 4096
_CACHED_LENGTH = 2000  # characters of an environment's additions; longer texts rarely repeat, and would fill the memory


class Rendered(NamedTuple):
    """A text and its tokens."""

    text: str
    ids: tuple[int, ...]


class ChatTemplate:
    """A tokenizer's chat template, used so that history is never rendered or tokenised twice.

    What follows an assistant turn (its end token, the messages of the environment, the opening of the next turn) is
    rendered after a short made-up history. This is correct if it does not depend on the history, and starts at a token
    that no tokenizer merges with the text before it. Both are tested once, for tool results and for user turns.

    Control tokens in the text of tools and users (special tokens, and added tokens that the template writes itself) get
    a space after their first character, so that no text can pose as a turn. Lone surrogates become U+FFFD.

    Usable from any thread: it has its own copy of the tokenizer behind a lock, since tokenizers are not thread-safe.

    Args:
        tokenizer: Object with `apply_chat_template`, `encode`, `decode` and `get_added_vocab`; it is copied.
        stop_ids: Further tokens at which the engine ends a turn: all of the model's generation config, if a turn may
            end at tokens that the tokenizer and its template do not show (GLM, gpt-oss).
        kwargs: Arguments for the template, such as `{"enable_thinking": False}`.

    Attributes:
        user_problem: Reason why user turns can't be continued with this template; None if they can.
        tool_problem: The same for the result of one tool.
        parallel_problem: The same for the results of several tools called in one turn.
        can_parse: Whether the tokenizer knows how to parse a response; if not, everything sampled is text.
    """

    def __init__(self, tokenizer: Any, *, stop_ids: Collection[int] = (), kwargs: dict[str, Any] | None = None) -> None:
        self._tokenizer = copy.deepcopy(tokenizer)
        self._lock = threading.RLock()
        self._renderer = Renderer(self._tokenizer, kwargs or {}, reserved=[_SENTINEL])
        self._prompts: Callable[[str], Rendered] = lru_cache(_CACHED_PROMPTS)(self._render_prompt)
        self._suffixes: Callable[[str], Rendered] = lru_cache(_CACHED_SUFFIXES)(self._render_suffix)
        self._closed: Callable[[str], str] = lru_cache(_CACHED_SUFFIXES)(self._render_closed)
        self._stop_ids = {*stop_ids, self._tokenizer.eos_token_id}
        self._end_id: int | None = None  # tokens that the template itself ends a turn of text with, if any
        self._parser = ResponseParser(self._tokenizer, self._stop_ids)
        self.can_parse = self._parser.can_parse
        self.tool_problem = self._certify(["probe"], _RESULTS[:1])
        self.parallel_problem = self._certify(["probe", "probe"], _RESULTS)
        self.user_problem = self._certify([], [user("probe")])

    def prompt(self, messages: Sequence[Message], tools: Sequence[ToolSchema]) -> Rendered:
        """Render the opening, up to where the policy begins to write."""
        return self._prompts(json.dumps([messages, tools]))

    def continuation(self, turn: Message, added: Sequence[Message], *, sampled: Sequence[int]) -> Rendered:
        """Render what follows a turn of the policy, up to where it begins to write again.

        Args:
            turn: The assistant message.
            added: Messages of the environment after it.
            sampled: Tokens of the turn. If they include an end token, the template's own is left out.

        Raises:
            TemplateError: The template can't be continued; the message says why.
        """
        names = [call["function"]["name"] for call in turn.get("tool_calls", ())]
        problem = self.user_problem if not names else self.tool_problem if len(names) == 1 else self.parallel_problem
        if problem is not None:
            raise TemplateError(problem)
        key = json.dumps([names, added])
        suffix = self._suffixes(key) if len(key) < _CACHED_LENGTH else self._render_suffix(key)
        return Rendered(suffix.text, suffix.ids[self._overlap(sampled, suffix.ids) :])

    @property
    def eos_id(self) -> int:
        """The end-of-sequence token.

        Raises:
            TemplateError: The tokenizer has none.
        """
        if self._tokenizer.eos_token_id is None:
            raise TemplateError("the tokenizer has no end-of-sequence token")
        return int(self._tokenizer.eos_token_id)

    def ends_turn(self, ids: Sequence[int]) -> bool:
        """Whether the last token ends a turn."""
        return bool(ids) and ids[-1] in self._stop_ids

    def parse(self, ids: Sequence[int], *, opened: str, tools: Sequence[ToolSchema], turn: int) -> Message:
        """Read sampled tokens as a message, by the tokenizer's response template if it has one.

        A tool call that can't be parsed stays a call, with its raw text as arguments, so that it gets an answer.

        Args:
            ids: Sampled tokens.
            opened: Text before them.
            tools: Schemas of the tools that the policy can call.
            turn: Number of the turn, which becomes part of the calls' ids.
        """
        with self._lock:
            return self._parser(ids, opened=opened, tools=tools, turn=turn)

    def _overlap(self, sampled: Sequence[int], suffix: Sequence[int]) -> int:
        """How many tokens of the suffix the policy has sampled itself: those up to the token it ended with.

        That is the first or second mark of the suffix: if a turn has no end token, the token of the next role ends it,
        and `</tool_call><|observation|>` are both sampled.
        """
        marks = list(islice((i for i, token in enumerate(suffix) if token in self._renderer.mark_ids), 2))
        for last in reversed(sampled[-2:]):
            for i in marks:
                if suffix[i] == last:
                    return i + 1
        return int(self.ends_turn(sampled) and suffix[0] == self._end_id)  # the policy ended its turn otherwise

    def _render_prompt(self, key: str) -> Rendered:
        messages, tools = json.loads(key)
        with self._lock:
            rendered = self._renderer.render(messages, tools=tools or None, add_generation_prompt=True)
            return Rendered(rendered, self._renderer.encode(rendered))

    def _render_suffix(self, key: str) -> Rendered:
        names, added = json.loads(key)
        with self._lock:
            turn = _dummy_turn([self._renderer.spaced(name) for name in names])
            suffix = self._suffix([user("x"), turn], [self._renderer.neutral(message) for message in _with_ids(added)])
            return Rendered(suffix, self._renderer.encode(suffix))

    def _suffix(self, history: Sequence[Message], added: Sequence[Message], tools: Any = None) -> str:
        """The text after the last turn of the history, which is a dummy.

        Raises:
            TemplateError: The template drops the turn, or nothing marks its end.
        """
        after = self._tail([*history, *added], tools=tools, add_generation_prompt=True)
        if not history[-1].get("tool_calls"):  # the text of the turn has just ended
            after = after.lstrip()
            start = 0 if self._renderer.mark.match(after) else None
        else:  # the call is not closed yet, as when nothing follows
            shared = _common_start(self._closed(json.dumps(history)), after)
            start = max((found.start() for found in self._renderer.mark.finditer(shared)), default=None)
        if start is None:
            raise TemplateError("no special token ends the assistant's turn")
        return after[start:]

    def _render_closed(self, key: str) -> str:
        return self._tail(json.loads(key))

    def _tail(self, messages: Sequence[Message], **options: Any) -> str:
        """The template's text after the last of the sentinels."""
        _, sentinel, tail = self._renderer.render(messages, **options).rpartition(_SENTINEL)
        if not sentinel:
            raise TemplateError("it does not show the assistant's turn")
        return tail

    def _certify(self, names: Sequence[str], added: Sequence[Message]) -> str | None:
        """Why the text after a turn can't be rendered alone; None if it can."""
        turn = _dummy_turn(names)
        with_tools = [*_HISTORIES[0], _dummy_turn(["probe"]), *_RESULTS[:1]]
        histories = [*_HISTORIES, with_tools] if names or self.tool_problem is None else _HISTORIES
        try:
            suffixes = {
                self._suffix([*history, turn], added, tools) for history in histories for tools in (None, [_PROBE_TOOL])
            }
            if len(suffixes) > 1:
                raise TemplateError("what follows a turn depends on the conversation before it")
            self._check_tokens([*_HISTORIES[0], turn, *added], suffixes.pop())
        except Exception as error:  # templates can raise anything
            return f"the chat template can't be continued: {error or type(error).__name__}"
        return None

    def _check_tokens(self, messages: Sequence[Message], suffix: str) -> None:
        """Learn which token ends a turn, once the suffix has the same tokens alone as in the conversation."""
        whole, ids = self._renderer.render(messages, add_generation_prompt=True), self._renderer.encode(suffix)
        if self._renderer.encode(whole.removesuffix(suffix)) + ids != self._renderer.encode(whole):
            raise TemplateError("its tokens differ between the suffix alone and the whole conversation")
        if messages[-1]["role"] == "user":
            opened = self._renderer.mark.findall(self._renderer.render([user(_SENTINEL)]).partition(_SENTINEL)[0])
            self._end_id = None if opened and suffix.startswith(opened[-1]) else ids[0]
            last = self._renderer.mark.match(self._tail(messages[:-1]).lstrip())  # gpt-oss: another end token
            self._stop_ids |= {ids[0], *(self._renderer.encode(last[0]) if last else ())}


def _dummy_turn(names: Sequence[str]) -> Message:
    """An assistant turn that ends in the sentinel; templates take the tool name of a result from the call before it."""
    if not names:
        return assistant(_SENTINEL)
    arguments = json.dumps({"x": _SENTINEL})
    return assistant("", tool_calls=[tool_call(name, arguments, id=f"call{i}") for i, name in enumerate(names)])


def _with_ids(added: Sequence[Message]) -> list[Message]:
    """Tool results with the ids of the dummy turn's calls."""
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
