"""Rows for supervised fine-tuning on rollouts that went well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import Any, Literal, cast

from gym_core.environments import Rollout
from gym_core.errors import GymError, TemplateError
from gym_core.export.rows import Rows
from gym_core.export.selection import message_problem, origin, reward_of, select, template_messages, tools_column
from gym_core.messages import Message, assistant, user
from gym_core.tokens import Renderer

Form = Literal["messages", "text", "tokens"]

_TRAINING: dict[Form, str] = {
    "messages": "TRL: `SFTConfig(assistant_only_loss=True, max_length=...)`. Without the first, the loss falls on "
    "prompts and tool results too; 1024 tokens are kept without the second. Load with `load_dataset('json', "
    "data_files=...)` or `Dataset.from_list(rows, on_mixed_types='use_json')`: Arrow else gives every call the "
    "arguments of all others, as null.",
    "text": "Unsloth: `SFTConfig(dataset_text_field='text', max_length=...)`, then "
    "`trainer = train_on_responses_only(trainer)`. Without the latter, the loss falls on prompts and tool results too, "
    "and TRL alone has no setting for text: give it messages or tokens.",
    "tokens": "TRL and Unsloth: `SFTConfig(max_length=...)`, of which 1024 is the default; the labels say the rest. "
    "The model must have the tokenizer of the one that sampled the tokens.",
}


def sft_rows(
    rollouts: Iterable[Rollout],
    form: Form = "messages",
    *,
    tokenizer: Any = None,
    min_reward: float = 1.0,
    best_of: int | None = None,
    keep_truncated: bool = False,
) -> Rows:
    """Conversations to imitate.

    A rollout without reward never enters, nor does one that says the same as another before it.

    Args:
        rollouts: Of any tasks, in any order.
        form: "messages", to which the trainer applies the chat template; "text", to which it has been applied, and in
            which no user or tool can say a control token (they get a space, as in `ChatTemplate`), since markers tell
            the turns; or "tokens", exactly those that were sampled, which only rollouts of a `TokenizedPolicy` have.
        tokenizer: With a chat template; for "text" only.
        min_reward: The least reward that is worth imitating.
        best_of: The most rollouts of one task: those of the highest rewards. None takes all.
        keep_truncated: Whether rollouts enter that met a limit of turns or tokens.

    Returns:
        One row a rollout, in their order: `messages` and `tools` (JSON text, or None), or `text`, or `input_ids` and
        `labels` (-100 where nothing was sampled); beside them `gym_task` and `gym_reward`.

    Raises:
        GymError: There is no such form, text lacks its tokenizer, or `best_of` is not positive.
        TemplateError: The chat template does not show tool calls, or, as text, not every turn.
    """
    if form not in _TRAINING:
        raise GymError(f"form must be one of {', '.join(map(repr, _TRAINING))}, not {form!r}")
    if (tokenizer is None) == (form == "text"):
        raise GymError(f"a tokenizer is needed for the form 'text', and for no other; the form is {form!r}")
    dropped: Counter[str] = Counter()
    selected = select(
        rollouts,
        dropped,
        problem=_token_problem if form == "tokens" else _conversation_problem,
        min_reward=min_reward,
        best_of=best_of,
        keep_truncated=keep_truncated,
    )
    columns = _column_maker(form, tokenizer)
    rows = [{**columns(rollout), **origin(rollout)} for rollout in selected]
    return Rows(rows, training=_TRAINING[form], rewards=[reward_of(rollout) for rollout in selected], dropped=dropped)


def _conversation_problem(rollout: Rollout) -> str | None:
    if not any(message["role"] == "assistant" for message in rollout.output):
        return "the assistant says nothing"
    return next(filter(None, map(message_problem, rollout.output)), None)


def _token_problem(rollout: Rollout) -> str | None:
    if rollout.tokens is None:
        return "its tokens are not known"
    if rollout.tokens.broken:
        return "its tokens are not what the engine saw"
    return None if any(rollout.tokens.mask) else "nothing was sampled"


def _column_maker(form: Form, tokenizer: Any) -> Callable[[Rollout], dict[str, Any]]:
    if form == "messages":
        return lambda rollout: {"messages": template_messages(rollout.output), "tools": tools_column(rollout)}
    if form == "tokens":
        return _token_columns
    return _Texts(tokenizer)


def _token_columns(rollout: Rollout) -> dict[str, Any]:
    track = rollout.tokens
    assert track is not None
    labels = [token if sampled else -100 for token, sampled in zip(track.completion_ids, track.mask, strict=True)]
    return {"input_ids": track.ids, "labels": [-100] * len(track.prompt_ids) + labels}


class _Texts:
    """Writes conversations as text, without the tokens that trainers add at its ends."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._renderer = Renderer(tokenizer, {})
        self._marker = self._turn_marker()

    def __call__(self, rollout: Rollout) -> dict[str, Any]:
        messages = [self._shown(message) for message in rollout.output]
        rendered = self._renderer.render(messages, tools=rollout.tools or None)
        self._check(rendered, messages, rollout)
        if self._tokenizer.eos_token and rendered.rstrip().endswith(self._tokenizer.eos_token):
            rendered = rendered.rstrip()  # else TRL appends a second one
        if self._tokenizer.bos_token and self._tokenizer.encode("")[:1] == [self._tokenizer.bos_token_id]:
            rendered = rendered.removeprefix(self._tokenizer.bos_token)
        return {"text": rendered}

    def _shown(self, message: Message) -> Message:
        # The system prompt is the author's own, who may mean the control tokens in it, such as <think>.
        if message["role"] not in ("assistant", "system"):
            return self._renderer.neutral(message)
        return {**message, "content": message["content"] or ""}  # some templates print None

    def _check(self, rendered: str, messages: Sequence[Message], rollout: Rollout) -> None:
        """See that the text shows what the assistant did, and where.

        Raises:
            TemplateError: It does not.
        """
        turns = sum(message["role"] == "assistant" for message in messages)
        if (marked := rendered.count(self._marker)) < turns:
            raise TemplateError(
                f"the chat template marks {marked} of {turns} turns of the assistant, so its text can't be told from "
                "what tools answer: use the form 'messages' or 'tokens'"
            )
        called = next((i for i, message in enumerate(messages) if message.get("tool_calls")), None)
        if called is not None:
            before, call = messages[:called], messages[called]
            silent = cast("Message", {key: value for key, value in call.items() if key != "tool_calls"})
            if self._renderer.render([*before, silent]) == self._renderer.render([*before, call]):
                raise TemplateError("the chat template does not show tool calls: give the tokenizer one that does")

    def _turn_marker(self) -> str:
        """What a turn of the assistant begins with, where it is written and where it is yet to be; one line at most."""
        said, written = [user("x")], [user("x"), assistant("x")]
        before = self._renderer.render(said)
        opened, closed = self._renderer.render(said, add_generation_prompt=True), self._renderer.render(written)
        if not opened.startswith(before) or not closed.startswith(before):
            return ""
        pairs = zip(opened[len(before) :], closed[len(before) :], strict=False)
        shared = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        return shared.strip().partition("\n")[0]
