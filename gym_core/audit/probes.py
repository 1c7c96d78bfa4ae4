"""Probes: replies that should earn nothing, and the right answer in several spellings."""

from __future__ import annotations

import json
import random
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from gym_core.environments import Task
from gym_core.messages import Message, text

QUICK = ("gold", "empty", "format only", "prompt copied", "all answers")
"""Policies that the quick part of an audit plays."""

GOLD_FORMS = ("{}", "#### {}", "\\boxed{{{}}}", "<answer>{}</answer>", "The answer is {}.", "Answer: {}")
"""Forms in which an answer is usually asked for."""

CONSTANTS = ("0", "1", "yes", "no", "a", "I do not know")
RANDOM_LENGTHS = (1, 3, 10, 30, 100, 300, 1000)
"""Lengths of the random texts, in characters."""

_REASONING = "Let me think about this step by step, and then answer.\n\n"
_OTHERS = 3  # answers of other tasks, tried per task
_EMPTY_FORMS = ("\\boxed{}", "<answer></answer>", "####", "The answer is .", "Answer:", "{}", "[]", "```\n\n```")

Kind = Literal["gold", "same", "respelled", "junk"]
"""What a reply should earn: nothing (`junk`), as much as the gold reply (`same`), or that only where no spelling is
asked for (`respelled`)."""


@dataclass(frozen=True)
class Probe:
    """A policy that knows nothing, or everything.

    Attributes:
        kind: Reward that the replies should earn.
        policy: Name in the reports.
        replies: Replies, turn by turn; junk gives its one reply at every turn.
        length: Length of a random text in characters; None for other policies.
        chance: Share of the gold reward that a guess among the listed answers would earn.
    """

    kind: Kind
    policy: str
    replies: tuple[str | Message, ...]
    length: int | None = None
    chance: float = 0.0

    @property
    def shown(self) -> str:
        """The replies as text for people."""
        return "\n".join(reply if isinstance(reply, str) else _shown(reply) for reply in self.replies)


def answer_text(task: Task) -> str | None:
    """The answer as a reply would spell it: JSON, unless it is text already; None where the task has none."""
    if task.answer is None or isinstance(task.answer, str):
        return task.answer
    return json.dumps(task.answer, default=str)


def is_same(answer: str, other: str) -> bool:
    """Whether two answers are the same number, or the same text apart from case and white space."""
    try:
        return Decimal(answer) == Decimal(other)
    except InvalidOperation:
        return answer.split() == other.split() or answer.strip().casefold() == other.strip().casefold()


def asked_form(tasks: Sequence[Task]) -> str:
    """The form of answer that the prompts ask for; "{}" where they name none."""
    prompts = ["\n".join(map(text, task.prompt)) for task in tasks]
    return next((form for form in GOLD_FORMS[1:] if any(_marker(form) in prompt for prompt in prompts)), "{}")


def junk_probes(task: Task, form: str, answers: Sequence[str]) -> Iterator[Probe]:
    """Replies that hold no answer, or the wrong one.

    Args:
        task: Task to reply to.
        form: Form of an answer, such as "#### {}".
        answers: Answers of all tasks, without repetition.
    """
    own = answer_text(task)
    if own is None or own.strip():  # else an empty reply is right
        yield Probe("junk", "empty", ("",))
        yield from (Probe("junk", "format only", (empty,)) for empty in _EMPTY_FORMS)
    for constant in CONSTANTS:
        if own is None or not is_same(constant, own):
            yield Probe("junk", f"always {constant!r}", (form.format(constant),))
    question = text(task.prompt[-1]) if task.prompt else ""
    for copied in dict.fromkeys(("\n".join(map(text, task.prompt)), form.format(question))):
        yield Probe("junk", "prompt copied", (copied,))
    if own is not None:
        yield from _answer_probes(own, form, [answer for answer in answers if not is_same(answer, own)], task.id)
    for length in RANDOM_LENGTHS:
        yield Probe("junk", "random text", (form.format(_random_text(task.id, length)),), length)


def _answer_probes(own: str, form: str, others: list[str], seed: str) -> Iterator[Probe]:
    if not others:
        return
    random.Random(seed).shuffle(others)
    for other in others[:_OTHERS]:
        yield Probe("junk", "another task's answer", (form.format(other),))
    middle = len(others) // 2
    # The right one is neither the first nor the last, since a verifier may take either.
    listed = [*(others[:middle] or others), own, *others[middle:]]
    for every in dict.fromkeys((form.format("\n".join(listed)), "\n".join(map(form.format, listed)))):
        yield Probe("junk", "all answers", (every,), chance=1 / (len(others) + 1))


def gold_probes(task: Task, form: str) -> Iterator[Probe]:
    """The gold reply first, then the same answer in other words and spellings; nothing where no answer is known."""
    answer = answer_text(task)
    if "gold" in task.info:
        yield Probe("gold", "gold", tuple(task.info["gold"]))
    elif answer is not None:
        yield Probe("gold", "gold", (form.format(answer),))
        yield Probe("same", "white space around", (form.format(f"  {answer}\n"),))
        # Where a bare answer is asked for, reasoning may well be refused.
        yield Probe("respelled" if form == "{}" else "same", "reasoning before", (_REASONING + form.format(answer),))
        for spelling in _same_json(answer):
            yield Probe("same", "JSON spaced otherwise", (form.format(spelling),))
        for name, spelling in _respelled(answer):
            yield Probe("respelled", name, (form.format(spelling),))


def _same_json(answer: str) -> Iterator[str]:
    try:
        value: Any = json.loads(answer)
    except ValueError:
        return
    if isinstance(value, list | dict):
        dumped = (json.dumps(value, separators=separators) for separators in ((",", ":"), (", ", ": ")))
        yield from (spelling for spelling in dumped if spelling != answer)


def _respelled(answer: str) -> Iterator[tuple[str, str]]:
    if "\n" in answer or not answer:
        return
    yield "a sentence", f"The answer is {answer}."
    yield "LaTeX: boxed", f"\\boxed{{{answer}}}"
    yield "LaTeX: dollars", f"${answer}$"
    if answer[-1].isalnum():
        yield "trailing period", f"{answer}."
    if answer.isalpha() and len(answer) > 1:
        yield "another case", answer.lower() if answer != answer.lower() else answer.capitalize()
    if re.fullmatch(r"-?[1-9][0-9]*", answer):
        yield "1000.0 for 1000", f"{answer}.0"
        if len(answer.lstrip("-")) > 3:
            yield "1,000 for 1000", f"{int(answer):,}"
    if answer[0] == "[" and answer[-1] == "]" and list(_same_json(answer)):
        yield "a tuple for a list", f"({answer[1:-1]})"


def _random_text(seed: str, length: int) -> str:
    randomness = random.Random(f"{seed}-{length}")
    letters = string.ascii_lowercase
    return randomness.choice(letters) + "".join(randomness.choices(letters + "    ", k=length - 1))


def _marker(form: str) -> str:
    return form.split("{}")[0].split("{{")[0].strip()


def _shown(message: Message) -> str:
    calls = [f"{call['function']['name']}({call['function']['arguments']})" for call in message.get("tool_calls") or ()]
    return " ".join([text(message), *calls]).strip()
