"""The match of mathematical answers: exact where that is simple, and by math-verify in a worker elsewhere."""

import hashlib
import re
from decimal import Decimal
from functools import lru_cache
from importlib.util import find_spec

from gym_core.errors import MissingDependencyError, WorkerHungError
from gym_core.processes import shared_workers
from gym_core.verifiers.math.algebra import algebra_match

MATH_VERIFY = "gym_core.verifiers.math.worker:math_verify_match"
"""Name of the function that runs in a worker; this process never imports it."""

_CPU_S = 5.0
"""CPU seconds per comparison, as many as math-verify allows itself."""
_MOST_VERDICTS = 1 << 16

_BRACE = re.compile(r"\\boxed\{|\\[\\{}]|[{}]")
_NEAR, _LISTED = 10, 70
"""Characters between the boxes of a list, as in math-verify: fewer than 10, or fewer than 70 with a separator."""
_SEPARATOR = re.compile(r"\b(?:and|or)\b|[,;]")

_READABLE = re.compile(r"[0-9$\\\[]")
"""Anything in which math-verify can find an answer: a digit, or the start of a formula."""
_LAST = re.compile(
    r"""
    (?: \A | (?<!\band) (?<!\bor) (?<=[A-Za-z:=\#]) \s )
    (?: (?P<number> -?[0-9]{1,15}(?:[./][0-9]{1,15})?) | \$(?P<formula>[^$\n]+)\$ )
    \.? \s* \Z
    """,
    re.VERBOSE,
)
_STATED = re.compile(r"answer(?: is)?:?\s\Z", re.IGNORECASE)


async def math_match(completion: str, answer: str | float) -> float:
    r"""Scores 1.0 when the completion's answer has the mathematical value of the task's.

    * The answer is the content of the last `\boxed{...}`. Boxes close together, as in `\boxed{1}, \boxed{2}`, are a
      list.
    * Without a box, math-verify looks for the answer: after the word `answer`, or else the last formula or number.
    * Values are compared, not spellings: `\frac12` is `0.5`, and `(x+1)^2` is `x^2+2x+1`. Decimals are rounded to six
      places. A list is a set, in any order, and `(1,2]` an interval. `x = 3` is 3, and units are dropped.
    * An answer that can't be compared in a few CPU seconds, such as `10^{10^{10}}`, scores 0.0.

    The rules are those of math-verify (https://github.com/huggingface/Math-Verify), which runs in a worker. It is not
    asked where the verdict is certain, as between two integers, nor twice about the same pair.

    Args:
        completion: Text that the policy wrote.
        answer: Expected answer in LaTeX, with or without a box, or a number. An answer that math-verify can't read
            matches only its own spelling.

    Raises:
        TypeError: The answer is neither a string nor a number.
        ValueError: The answer is blank or not finite.
        MissingDependencyError: math-verify is not installed.
        WorkerLostError: The worker was lost, through no fault of the completion.
    """
    gold, boxed = _author_answer(answer), _boxed(completion)
    found = _last_answer(completion) if boxed is None else boxed
    if not _has_math_verify():
        raise MissingDependencyError("math")
    if found == gold:
        return 1.0
    if boxed == "" or not _READABLE.search(completion):
        return 0.0
    match = algebra_match(gold, found) if found else None
    if match is not None:
        return float(match)
    return await _worker_match(gold, completion if boxed is None else f"\\boxed{{{boxed}}}")


async def _worker_match(gold: str, text: str) -> float:
    verdict = _known_verdict(hashlib.sha256(f"{gold}\0{text}".encode(errors="surrogatepass")).digest())
    if not verdict:
        try:
            match = await shared_workers().call(MATH_VERIFY, gold, text, cpu_s=_CPU_S)
        except WorkerHungError:
            match = False
        verdict.append(float(match))
    return verdict[0]


@lru_cache(maxsize=_MOST_VERDICTS)
def _known_verdict(key: bytes) -> list[float]:
    """The place of a verdict; it is empty until the verdict is known."""
    return []


@lru_cache
def _has_math_verify() -> bool:
    return find_spec("math_verify") is not None


def _author_answer(answer: object) -> str:
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise TypeError(f"a math_match answer must be a string or a number, not {answer!r}")
    if isinstance(answer, float):
        answer = f"{Decimal(repr(answer)):f}"  # no exponent
    text = str(answer)
    boxed = _boxed(text)
    gold = text.strip().strip("$").strip() if boxed is None else boxed
    if not gold or gold.lower() in ("nan", "infinity", "-infinity"):
        raise ValueError(f"a math_match answer must be an expression, not {answer!r}")
    return gold


def _last_answer(completion: str) -> str | None:
    """The number or formula at the end of the completion; None if math-verify might find another answer."""
    last = _LAST.search(completion)
    if last is None or r"\boxed" in completion:
        return None
    stated = _STATED.search(completion, max(0, last.start() - 20), last.start() + 1)
    if completion.lower().count("answer") != (1 if stated else 0):
        return None
    if last["number"]:
        return last["number"]
    is_paired = completion.count("$") % 2 == 0 and "$$" not in completion and r"\$" not in completion
    return last["formula"].strip() if is_paired else None


def _boxed(text: str) -> str | None:
    """The content of the last closed box, or of the last boxes, joined by commas; None if there is no box."""
    boxes = _boxes(text)
    if not boxes:
        return None
    start, _ = boxes[-1]
    contents = [text[slice(*boxes[-1])].strip()]
    for box in reversed(boxes[:-1]):
        content, between = text[slice(*box)].strip(), text[box[1] + 1 : start - len(r"\boxed{")]
        is_listed = len(between) < _LISTED and content != contents[-1] and _SEPARATOR.search(between)
        if len(between) >= _NEAR and not is_listed:
            break
        start = box[0]
        if content != contents[-1]:
            contents.append(content)
    return ",".join(reversed(contents))


def _boxes(text: str) -> list[tuple[int, int]]:
    """Start and end of the contents of the closed boxes, in order; of nested boxes, only the innermost."""
    boxes: list[tuple[int, int]] = []
    open_braces: list[int | None] = []
    for match in _BRACE.finditer(text):
        token = match[0]
        if token in ("{", r"\boxed{"):
            open_braces.append(match.end() if token != "{" else None)
        elif token == "}" and open_braces:
            start = open_braces.pop()
            if start is not None and not (boxes and boxes[-1][0] > start):
                boxes.append((start, match.start()))
    return boxes
