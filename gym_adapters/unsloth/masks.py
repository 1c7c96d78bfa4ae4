"""The text that a supervised trainer is about to learn, checked to be the assistant's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from gym_core import GymError, text


class _Run(NamedTuple):
    """The text of adjacent tokens that are all learned, or all not; `start` is its position in the row's text."""

    start: int
    shown: str
    learned: bool


def check_masks(rows: Iterable[Mapping[str, Any]], tokenizer: Any, conversations: Iterable[Any]) -> list[str]:
    """Check that only the assistant's text is learned, before time is spent on anything else.

    The usual way to mask (`train_on_responses_only`) looks for the marker of an assistant's turn, so a tool result that
    quotes the marker is learned as if the model had written it. Here the text of every message is looked up in the row,
    in order; a text of a few characters may be found too early.

    Args:
        rows: Rows with `input_ids` and `labels` (-100 where nothing is learned), such as the trainer's `train_dataset`.
        tokenizer: Tokenizer that decodes them.
        conversations: Messages of each row, in the order of the rows.

    Returns:
        The learned text of each row, its runs joined by newlines.

    Raises:
        GymError: A row learns text of the environment or no text of the assistant, or shows another conversation.
    """
    learned = []
    for number, (row, messages) in enumerate(zip(rows, conversations, strict=True)):
        runs = list(_runs(row["input_ids"], row["labels"], tokenizer))
        if problem := _problem(runs, messages):
            raise GymError(f"row {number}: {problem}")
        learned.append("\n".join(run.shown for run in runs if run.learned))
    return learned


def _runs(ids: Sequence[int], labels: Sequence[int], tokenizer: Any) -> Iterator[_Run]:
    start = 0
    for learned, pairs in groupby(zip(ids, labels, strict=True), key=lambda pair: pair[1] != -100):
        shown = str(tokenizer.decode([token for token, _ in pairs]))
        yield _Run(start, shown, learned)
        start += len(shown)


def _problem(runs: Sequence[_Run], messages: Sequence[Any]) -> str | None:
    """Follow the messages through the row: each begins where the previous one ended, or later."""
    whole, seen, taught = "".join(run.shown for run in runs), 0, False
    for message in messages:
        said = text(message).strip()
        start = whole.find(said, seen)
        if start < 0:
            return f"the {message['role']} message {said!r} is not in it: it is cut off, or from another conversation"
        seen = start + len(said)
        overlap = "".join(_learned(run, start, seen) for run in runs)
        if overlap and message["role"] != "assistant":
            return f"{overlap!r} would be learned, which is part of a {message['role']} message"
        taught = taught or bool(overlap)
    calls = any(message.get("tool_calls") for message in messages)
    if not taught and not (calls and any(run.learned for run in runs)):
        return "no text of the assistant would be learned"
    return None


def _learned(run: _Run, start: int, end: int) -> str:
    """The part of a learned run between two positions of the row."""
    return run.shown[max(start - run.start, 0) : max(end - run.start, 0)] if run.learned else ""
