"""No verifier that runs in the trainer's process takes more than linear time, whatever a model writes."""

import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest

from gym_core.verifiers import choice_match, contains_match, exact_match, instruction_match, number_match
from gym_core.verifiers.code.match import _stated_code
from gym_core.verifiers.instructions import _CHECKS
from gym_core.verifiers.math.match import _boxed, _last_answer

CHARACTERS = 12_000
LONGEST_CPU_S = 0.5

REPEATED = [
    " ", "1", "1,", ",111", "1/", "1-", "1 ", "1.", "1 1/1", "10^", "1x", "1*10^", "1e", "1\u2009", "\u207b\u00b9",
    "A, ", "A or B ", "(A)", "**A** ", "A\n", "A) x\n", "yes, no ", "answer is ", "option ", "and", "{", "[", "[a",
    "*", "*a", "* ", "<<", "<<a", "a.", "a-", "a", ".", "!?", ")", "\n", "\n ", "\n \n", "$", "a $", "x_1", "^{", "p ",
    "\\boxed{", "\\boxed{1}", "\\boxed{1}, ", "\\frac{", "\\frac{1} ", "\\a{", "\u0301", "Section ", "`", "```\n",
    "~", "~~~ a\n", "x\t", '"',
]  # fmt: skip
STARTS = ["", "```", "~~~", "a", "1", "answer is ", "\\frac{1}", "\\boxed{", "<answer>", "[", "<<"]
ENDS = ["x", "`"]

ARGUMENTS: dict[str, Any] = {
    "capital_frequency": 2, "capital_relation": "at least", "end_phrase": "x", "first_word": "a",
    "forbidden_words": ["foo", "aa"], "frequency": 2, "keyword": "a", "keywords": ["a", "foo"], "let_frequency": 2,
    "let_relation": "at least", "letter": "a", "nth_paragraph": 1, "num_bullets": 2, "num_highlights": 2,
    "num_paragraphs": 1, "num_placeholders": 2, "num_sections": 2, "num_sentences": 3, "num_words": 3,
    "postscript_marker": "P.S.", "prompt_to_repeat": "a a", "relation": "at least", "section_spliter": "Section",
}  # fmt: skip


def instruction(name: str) -> Callable[[str], object]:
    row = {"instruction_id_list": [name], "kwargs": [{key: ARGUMENTS[key] for key in _CHECKS[name][1]}]}
    return lambda text: instruction_match(text, row)


VERIFIERS: dict[str, Callable[[str], object]] = {
    **{name: instruction(name) for name in _CHECKS},
    "number": lambda text: number_match(text, 5),
    "number after": lambda text: number_match(text, 5, after="####"),
    "choice": lambda text: choice_match(text, "B"),
    "choice of words": lambda text: choice_match(text, "yes", choices=["yes", "no"]),
    "exact": lambda text: exact_match(text, "abc"),
    "contains": lambda text: contains_match(text, ["abc", "aab"]),
    "code block": _stated_code,
    "boxed": _boxed,
    "last answer": _last_answer,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", VERIFIERS)
def test_time_is_linear_in_the_length_of_a_completion(name: str) -> None:
    slow = []
    for start, repeated, end in itertools.product(STARTS, REPEATED, ENDS):
        text = start + repeated * (CHARACTERS // len(repeated)) + end
        started_s = time.process_time()
        VERIFIERS[name](text)
        if time.process_time() - started_s > LONGEST_CPU_S:
            slow.append((start, repeated, end))
    assert slow == []
