"""Verifiers of text: the whole completion, phrases in it, or what a pattern finds in it."""

import re
import unicodedata
from collections import deque
from collections.abc import Sequence

from gym_core.errors import WorkerHungError
from gym_core.processes import shared_workers

_CPU_S = 1.0
"""CPU seconds per search for a pattern."""
_LONGEST_DECOMPOSITION = 4
"""Largest number of code points that one code point decomposes to
(https://www.unicode.org/faq/normalization.html#12)."""


def exact_match(completion: str, answer: str, *, ignore_case: bool = False) -> float:
    """Scores 1.0 when the whole completion is the answer.

    Both are compared in Unicode's normal form C, stripped, with each run of white space as one space.

    Args:
        completion: Text that the policy wrote.
        answer: Expected text.
        ignore_case: Whether `PARIS` matches `Paris`.

    Raises:
        TypeError: The answer is not a string.
        ValueError: The answer is blank, so the empty completion would score.
    """
    expected = _collapse(_author_text(answer, "an exact_match answer"), ignore_case=ignore_case)
    found = _collapse(completion, ignore_case=ignore_case)
    # A longer text can't be equal, and Python normalises a run of combining marks in quadratic time.
    if len(found) > _LONGEST_DECOMPOSITION * len(expected):
        return 0.0
    return float(unicodedata.normalize("NFC", found) == unicodedata.normalize("NFC", expected))


def contains_match(completion: str, answer: str | Sequence[str], *, ignore_case: bool = True) -> float:
    """Scores 1.0 when every expected phrase occurs in the completion as whole words.

    `no` is not in `know`, and a phrase matches across line breaks. Negation is not understood: `not Paris` contains
    `Paris`. A completion that lists every candidate scores as well, so prefer `choice_match` or `exact_match` where the
    policy must commit to one answer.

    Args:
        completion: Text that the policy wrote.
        answer: Phrase, or list of phrases that must all occur.
        ignore_case: Whether `paris` matches `Paris`.

    Raises:
        TypeError: A phrase is not a string.
        ValueError: There are no phrases, or one is blank.
    """
    is_list = isinstance(answer, Sequence) and not isinstance(answer, str)
    phrases = list(answer) if is_list else [answer]
    if not phrases:
        raise ValueError(f"a contains_match answer must be one phrase or more, not {answer!r}")
    patterns = [
        _whole_words(_collapse(_author_text(phrase, "a contains_match answer"), ignore_case=ignore_case))
        for phrase in phrases
    ]
    found = _collapse(completion, ignore_case=ignore_case)
    return float(all(re.search(pattern, found) for pattern in patterns))


async def regex_match(completion: str, answer: str, *, pattern: str) -> float:
    """Scores 1.0 when the last match of a pattern is the answer, both stripped.

    The first group of the match counts, or the whole match where the pattern has no groups. The search runs in a
    worker: a completion on which the pattern backtracks for more than one CPU second scores 0.0.

    Args:
        completion: Text that the policy wrote.
        answer: Expected text.
        pattern: Regular expression in the syntax of Python's `re`, with flags inline, such as `(?i)`.

    Raises:
        TypeError: The answer is not a string.
        ValueError: The answer is blank, or the pattern is not a regular expression.
        WorkerLostError: The worker was lost, through no fault of the completion.
    """
    expected = _author_text(answer, "a regex_match answer").strip()
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"a regex_match pattern must be a regular expression, not {pattern!r}: {error}") from error
    try:
        found = await shared_workers().call(last_match, completion, pattern, cpu_s=_CPU_S)
    except WorkerHungError:
        return 0.0
    return float(found is not None and found.strip() == expected)


def last_match(text: str, pattern: str) -> str | None:
    """The first group of the last match of a pattern, or the whole match; it can hang, so it runs in a worker."""
    compiled = re.compile(pattern)
    matches = deque(compiled.finditer(text), maxlen=1)
    return matches[0][1 if compiled.groups else 0] if matches else None


def _author_text(text: object, what: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a string, not {text!r}")
    if not text.strip():
        raise ValueError(f"{what} must not be blank, got {text!r}")
    return text


def _collapse(text: str, *, ignore_case: bool) -> str:
    collapsed = " ".join(text.split())
    return collapsed.casefold() if ignore_case else collapsed


def _whole_words(phrase: str) -> str:
    """The pattern of a phrase at word boundaries; `C++` and `$5` begin or end with characters that are not of words."""
    before = r"(?<!\w)" if re.match(r"\w", phrase[0]) else ""
    after = r"(?!\w)" if re.match(r"\w", phrase[-1]) else ""
    return before + re.escape(phrase) + after
