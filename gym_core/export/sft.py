"""Rows for supervised fine-tuning on successful rollouts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import Any, Literal, cast

from gym_core.environments import Rollout
from gym_core.errors import GymError, TemplateError
from gym_core.export.rows import Rows
from gym_core.export.selection import (
    Lengths,
    Rendered,
    message_problem,
    origin,
    policy_turns,
    rendered,
    reward_of,
    select,
    template_messages,
    too_long,
    tools_column,
)
from gym_core.messages import Message, assistant, text, user
from gym_core.tokens import Renderer

Form = Literal["messages", "text", "tokens"]

_TRAINING: dict[Form, str] = {
    "messages": "TRL: `SFTConfig(assistant_only_loss=True, max_length=...)`. Without the first setting, the loss falls "
    "on prompts and tool results too; without the second, 1024 tokens are kept. Load with `load_dataset('json', "
    "data_files=...)` or `Dataset.from_list(rows, on_mixed_types='use_json')`: otherwise Arrow gives every call the "
    "arguments of all others, as null.",
    "text": "Unsloth: `SFTConfig(dataset_text_field='text', max_length=...)`, then "
    "`trainer = train_on_responses_only(trainer)`. Without the latter, the loss falls on prompts and tool results too, "
    "and TRL alone has no setting for text: pass it messages or tokens.",
    "tokens": "TRL and Unsloth: `SFTConfig(max_length=...)`, whose default is 1024; the labels do the rest. "
    "The model must have the same tokenizer as the one that sampled the tokens.",
}


def sft_rows(
    rollouts: Iterable[Rollout],
    form: Form = "messages",
    *,
    tokenizer: Any = None,
    min_reward: float = 1.0,
    best_of: int | None = None,
    keep_truncated: bool = False,
    max_tokens: int | None = None,
) -> Rows:
    """Conversations to imitate.

    Rollouts without a reward and duplicates of earlier rollouts are left out.

    Args:
        rollouts: Rollouts of any tasks, in any order.
        form: Form of the rows. "messages": the trainer applies the chat template. "text": the chat template is applied
            here, and control tokens in the text of users and tools get a space (as in `ChatTemplate`), since trainers
            find the turns by their markers. "tokens": exactly those that were sampled, which only rollouts of a
            `TokenizedPolicy` have.
        tokenizer: Tokenizer of the model, with a chat template; only for "text" and for `max_tokens`.
        min_reward: Least reward that is worth imitating.
        best_of: Most rollouts per task, those with the highest rewards; None takes all.
        keep_truncated: Whether to use rollouts that reached a limit of turns or tokens.
        max_tokens: Most tokens per row; longer rows are left out, since trainers would cut them off.

    Returns:
        One row per rollout, in their order: `messages` and `tools` (JSON text, or None), or `text`, or `input_ids` and
        `labels` (-100 where nothing was sampled); and in every form `gym_task` and `gym_reward`.

    Raises:
        GymError: There is no such form, the tokenizer is missing or not needed, or `best_of` or `max_tokens` is not
            positive.
        TemplateError: The chat template does not render tool calls or, for "text", not every turn.
    """
    if form not in _TRAINING:
        raise GymError(f"form must be one of {', '.join(map(repr, _TRAINING))}, not {form!r}")
    if (tokenizer is None) == (form == "text" or (form == "messages" and max_tokens is not None)):
        needed = "the form 'text' and for max_tokens of messages, and for nothing else"
        raise GymError(f"a tokenizer is needed for {needed}; the form is {form!r}, max_tokens {max_tokens!r}")
    dropped: Counter[str] = Counter()
    writer = _WRITERS[form](tokenizer, max_tokens)
    selected = select(
        rollouts,
        dropped,
        problem=writer.problem,
        min_reward=min_reward,
        best_of=best_of,
        keep_truncated=keep_truncated,
    )
    rows = [{**writer.columns(rollout), **origin(rollout)} for rollout in selected]
    return Rows(rows, training=_TRAINING[form], rewards=[reward_of(rollout) for rollout in selected], dropped=dropped)


def _conversation_problem(rollout: Rollout) -> str | None:
    if not policy_turns(rollout):
        return "the assistant wrote nothing"
    return next(filter(None, map(message_problem, rollout.output)), None)


def _begins_with_space(message: Message) -> bool:
    return message["role"] == "assistant" and text(message)[:1].isspace()


class _Messages:
    """Writes conversations as they are."""

    def __init__(self, tokenizer: Any, max_tokens: int | None) -> None:
        self._lengths = Lengths(tokenizer, max_tokens)

    def problem(self, rollout: Rollout) -> str | None:
        return _conversation_problem(rollout) or self._lengths.problem(rollout, rollout.output)

    def columns(self, rollout: Rollout) -> dict[str, Any]:
        return {"messages": template_messages(rollout.output), "tools": tools_column(rollout)}


class _Tokens:
    """Writes exactly the sampled tokens."""

    def __init__(self, _: None, max_tokens: int | None) -> None:
        self._max_tokens = max_tokens

    def problem(self, rollout: Rollout) -> str | None:
        if rollout.tokens is None:
            return "its tokens are not known"
        if rollout.tokens.broken:
            return "its tokens are not what the engine saw"
        return too_long(rollout.tokens.ids, self._max_tokens) if any(rollout.tokens.mask) else "nothing was sampled"

    def columns(self, rollout: Rollout) -> dict[str, Any]:
        track = rollout.tokens
        assert track is not None
        labels = [token if sampled else -100 for token, sampled in zip(track.completion_ids, track.mask, strict=True)]
        return {"input_ids": track.ids, "labels": [-100] * len(track.prompt_ids) + labels}


class _Texts:
    """Writes conversations as text, without the tokens that trainers add at both ends."""

    def __init__(self, tokenizer: Any, max_tokens: int | None) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._renderer = Renderer(tokenizer, {})
        self._marker = self._turn_marker()

    def problem(self, rollout: Rollout) -> str | None:
        if problem := _conversation_problem(rollout):
            return problem
        if any(_begins_with_space(message) for message in rollout.output):
            return "a turn begins with white space, which hides its marker from trainers"
        written = self._render(rollout)
        return written.problem or too_long(self._renderer.encode(written.text), self._max_tokens)

    def columns(self, rollout: Rollout) -> dict[str, Any]:
        return {"text": self._render(rollout).text}

    def _render(self, rollout: Rollout) -> Rendered:
        messages = [self._shown(message) for message in rollout.output]
        written, problem = rendered(self._renderer, messages, rollout)
        if problem is not None:
            return Rendered(written, problem)
        self._check(written, messages)
        if self._tokenizer.eos_token and written.rstrip().endswith(self._tokenizer.eos_token):
            written = written.rstrip()  # otherwise TRL appends a second one
        if self._tokenizer.bos_token and self._tokenizer.encode("")[:1] == [self._tokenizer.bos_token_id]:
            written = written.removeprefix(self._tokenizer.bos_token)
        return Rendered(written)

    def _shown(self, message: Message) -> Message:
        # Control tokens in the system prompt, such as <think>, may be intended by its author.
        if message["role"] not in ("assistant", "system"):
            return self._renderer.neutral(message)
        return {**message, "content": message["content"] or ""}  # some templates print None

    def _check(self, written: str, messages: Sequence[Message]) -> None:
        """Check that the text shows the assistant's turns and calls.

        Raises:
            TemplateError: The text does not show them.
        """
        turns = sum(message["role"] == "assistant" for message in messages)
        if (marked := written.count(self._marker)) < turns:
            raise TemplateError(
                f"the chat template marks {marked} of {turns} turns of the assistant, so its text can't be told from "
                "tool results: use the form 'messages' or 'tokens'"
            )
        called = next((i for i, message in enumerate(messages) if message.get("tool_calls")), None)
        if called is not None:
            before, call = messages[:called], messages[called]
            silent = cast("Message", {key: value for key, value in call.items() if key != "tool_calls"})
            if self._renderer.render([*before, silent]) == self._renderer.render([*before, call]):
                raise TemplateError("the chat template does not show tool calls: give the tokenizer one that does")

    def _turn_marker(self) -> str:
        """The text that opens a turn of the assistant, both in a conversation and as a prompt; at most one line."""
        said, written = [user("x")], [user("x"), assistant("x")]
        before = self._renderer.render(said)
        opened, closed = self._renderer.render(said, add_generation_prompt=True), self._renderer.render(written)
        if not opened.startswith(before) or not closed.startswith(before):
            return ""
        pairs = zip(opened[len(before) :], closed[len(before) :], strict=False)
        shared = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        return shared.strip().partition("\n")[0]


_WRITERS: dict[Form, Callable[[Any, int | None], _Messages | _Texts | _Tokens]] = {
    "messages": _Messages,
    "text": _Texts,
    "tokens": _Tokens,
}
