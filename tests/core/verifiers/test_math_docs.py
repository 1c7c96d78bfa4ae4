"""What docs/math.md says of the two verifiers is what they say."""

import re
from pathlib import Path

import pytest

pytest.importorskip("math_verify")

from gym_core.verifiers import math_match
from gym_core.verifiers.math.worker import math_verify_match

DOCS = (Path(__file__).parents[3] / "docs" / "math.md").read_text(encoding="utf-8")
ROWS = [line.split(" | ") for line in DOCS.splitlines() if line.startswith("| `") and "both say" not in line]


def cases():
    for completion, expected, ours, *theirs in ROWS:
        verdicts = (ours, theirs[0] if len(theirs) == 2 else ours)
        for answer in re.findall(r"`([^`]+)`", expected):
            yield pytest.param(completion.strip("| `"), answer, *map(float, verdicts), id=f"{completion}-{answer}")


@pytest.mark.parametrize(("completion", "answer", "ours", "theirs"), list(cases()))
async def test_both_say_what_the_table_says(completion, answer, ours, theirs):
    assert await math_match(completion, answer) == ours
    assert math_verify_match(answer.strip("$"), completion) == bool(theirs)


def test_the_table_was_read():
    assert len(list(cases())) == 9
