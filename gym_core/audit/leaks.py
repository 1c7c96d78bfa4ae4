"""Leaks: answers that the policy is shown before it has to give them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from gym_core.audit.findings import Finding, Thresholds
from gym_core.audit.probes import answer_text, is_same
from gym_core.environments import Rollout
from gym_core.messages import Message, text

_MARKED = (
    r"####\s*{}(?!\w|\.\d)",
    r"\\boxed\{{\s*{}\s*\}}",
    r"<answer>\s*{}\s*</answer>",
    r"(?i:answer|solution|gold|ground[ _]truth|expected|label|target)['\"]?\s*(?:is|are|[:=])\s*['\"]?{}(?!\w|\.\d)",
)
_PLAIN = r"(?<!\w){}(?!\w)"
_SHORTEST = 4  # characters: a plain mention of a shorter answer is not worth a note
_MENTIONED = 0.3  # share of the tasks, above the share for other tasks' answers, that is worth a note


def find_leaks(rollouts: Sequence[Rollout], thresholds: Thresholds) -> Iterator[Finding]:
    """Find answers in openings and tool results.

    An answer marked as one, as in `#### 72` or `"answer": 72`, is a leak. A mere mention is only noted, since an
    extract from a text or the result of a calculator is not a leak. Both are compared with how often the answers of
    other tasks are found in the same place, since some answers are found everywhere.

    Args:
        rollouts: Rollouts to search, one or more per task.
        thresholds: Limits; more than `max_leaked` is a defect.
    """
    for place, shown in (("the opening", _openings(rollouts)), ("the output of tools", _tool_results(rollouts))):
        marked = _Search(shown, _MARKED)
        if marked.share > thresholds.max_leaked:
            sentence = f"{place} holds the answer, marked as such, in {marked.share:.0%} of the tasks"
            yield Finding("leak", True, f"{sentence}, expected at most {thresholds.max_leaked:.0%}", *marked.found)
        elif (mentioned := _Search(shown, [_PLAIN], _SHORTEST)).share > _MENTIONED:
            sentence = f"{place} mentions the answer in {mentioned.share:.0%} of the tasks"
            yield Finding("leak", False, sentence, *mentioned.found)


class _Search:
    """How often texts hold the answer to their own task.

    Args:
        shown: Answer and text of each task, by the task's id.
        patterns: Patterns, each with a place for the answer.
        shortest: Length in characters below which an answer is not searched for.

    Attributes:
        share: Share of the tasks, minus the share of pairs of a text and another task's answer; 0.0 where all tasks
            have the same answer, which shows nothing.
        found: Ids of the tasks, and an example.
    """

    def __init__(self, shown: dict[str, tuple[str, str]], patterns: Sequence[str], shortest: int = 1) -> None:
        looked = {task: pair for task, pair in shown.items() if len(pair[0]) >= shortest}
        held = {task: said for task, (answer, said) in looked.items() if _holds(said, answer, patterns)}
        others = [
            _holds(said, other, patterns)
            for answer, said in looked.values()
            for other in dict.fromkeys(other for other, _ in looked.values())
            if not is_same(answer, other)
        ]
        self.share = len(held) / len(looked) - sum(others) / len(others) if others else 0.0
        self.found = (tuple(held), next(({"task": task, "shown": said} for task, said in held.items()), None))


def _holds(said: str, answer: str, patterns: Iterable[str]) -> bool:
    return any(re.search(pattern.format(re.escape(answer)), said) for pattern in patterns)


def _openings(rollouts: Iterable[Rollout]) -> dict[str, tuple[str, str]]:
    return _shown((rollout, rollout.output[: _opening_length(rollout.output)]) for rollout in rollouts)


def _tool_results(rollouts: Iterable[Rollout]) -> dict[str, tuple[str, str]]:
    """Tool results, those of all rollouts of a task joined."""
    return _shown((rollout, [m for m in rollout.output if m["role"] == "tool"]) for rollout in rollouts)


def _shown(pairs: Iterable[tuple[Rollout, Sequence[Message]]]) -> dict[str, tuple[str, str]]:
    shown: dict[str, tuple[str, str]] = {}
    for rollout, messages in pairs:
        answer, said = answer_text(rollout.task), "\n".join(map(text, messages))
        if answer and said:
            _, before = shown.get(rollout.task.id, ("", ""))
            shown[rollout.task.id] = answer, said if said in before else f"{before}\n{said}".strip()
    return shown


def _opening_length(output: Sequence[Message]) -> int:
    return next((i for i, message in enumerate(output) if message["role"] == "assistant"), len(output))
