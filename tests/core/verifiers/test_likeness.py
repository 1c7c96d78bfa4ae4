import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gym_core.errors import MissingDependencyError
from gym_core.verifiers import similarity

pytest.importorskip("rapidfuzz")

TEXTS = st.text(st.characters(), max_size=60)  # surrogates and NUL included


@pytest.mark.parametrize(
    ("completion", "answer", "score"),
    [
        ("", "Paris", 0.0),
        ("xyz", "Paris", 0.0),
        (" Paris\n", "Paris", 1.0),
        ("paris", "Paris", 0.8),
        ("Pairs", "Paris", 0.8),
        ("Paris is the capital", "Paris", 0.4),
        ("ab", "ba", 0.5),
        ("cafe\u0301", "caf\u00e9", 2 / 3),
        ("\ud800", "Paris", 0.0),
    ],
)
def test_similarity_is_twice_the_common_subsequence_over_both_lengths(completion, answer, score):
    assert similarity(completion, answer) == pytest.approx(score)


@settings(deadline=None)
@given(TEXTS, TEXTS.filter(str.strip))
def test_similarity_is_a_symmetric_number_from_0_to_1(completion, answer):
    score = similarity(completion, answer)
    assert 0.0 <= score <= 1.0
    assert (score == 1.0) == (completion.strip() == answer.strip())
    if completion.strip():
        assert similarity(answer, completion) == score
    assert score == pytest.approx(_common_subsequence(completion.strip(), answer.strip()))


def _common_subsequence(left: str, right: str) -> float:
    row = [0] * (len(right) + 1)
    for a in left:
        before = row
        row = [0]
        for i, b in enumerate(right):
            row.append(before[i] + 1 if a == b else max(before[i + 1], row[i]))
    return 2 * row[-1] / (len(left) + len(right))


@pytest.mark.parametrize(
    ("answer", "error", "sentence"),
    [
        ("", ValueError, "a similarity answer must not be blank, got ''"),
        (" \n", ValueError, "a similarity answer must not be blank, got ' \\n'"),
        (None, TypeError, "a similarity answer must be a string, not None"),
    ],
)
def test_a_mistake_of_the_author_is_one_sentence(answer, error, sentence):
    with pytest.raises(error) as raised:
        similarity("x", answer)
    assert str(raised.value) == sentence


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidfuzz.distance", None)
    with pytest.raises(MissingDependencyError, match="this needs the extra 'similarity'"):
        similarity("x", "y")
