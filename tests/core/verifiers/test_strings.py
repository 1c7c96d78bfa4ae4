import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gym_core.verifiers import contains_match, exact_match, regex_match

ANY_TEXT = st.text(st.characters(), max_size=200)  # surrogates and NUL included
ANSWER_LINE = r"(?im)^answer:(.*)$"


@pytest.mark.parametrize(
    ("completion", "answer", "reward"),
    [
        ("cafe\u0301", "café", 1.0),
        ("caf\u00e9", "cafe\u0301", 1.0),
        ("\u1112\u1161\u11ab", "한", 1.0),
        ("  New\u00a0York\n City ", "New York City", 1.0),
        ("Paris", "paris", 0.0),
        ("Paris.", "Paris", 0.0),
        ("The capital is Paris", "Paris", 0.0),
        ("ﬁne", "fine", 0.0),
        ("Paris\x00", "Paris", 0.0),
        ("\ud800", "Paris", 0.0),
        ("\ud800", "\ud800", 1.0),
        ("Paris Rome Oslo", "Paris", 0.0),
        ("What is the capital of France?", "Paris", 0.0),
        ("", "Paris", 0.0),
        ("Paris", "Paris", 1.0),
    ],
)
def test_exact_match_compares_normalised_texts(completion, answer, reward):
    assert exact_match(completion, answer) == reward


@pytest.mark.parametrize(
    ("completion", "answer", "reward"),
    [
        ("STRASSE", "Straße", 1.0),
        ("É", "e\u0301", 1.0),
        ("paris", "PARIS", 1.0),
        ("pariss", "PARIS", 0.0),
    ],
)
def test_exact_match_can_ignore_case(completion, answer, reward):
    assert exact_match(completion, answer, ignore_case=True) == reward


def test_exact_match_does_not_normalise_texts_too_long_to_match():
    assert exact_match("a" + "\u0301" * 500_000 + "\u0316" * 500_000, "a") == 0.0


@pytest.mark.parametrize(
    ("completion", "answer", "reward"),
    [
        ("I know", "no", 0.0),
        ("no, I don't", "no", 1.0),
        ("snow_no", "no", 0.0),
        ("the New\n  York office", "new york", 1.0),
        ("It costs $55", "$5", 0.0),
        ("It costs $5.", "$5", 1.0),
        ("Written in C++, mostly", "C++", 1.0),
        ("Written in C", "C++", 0.0),
        ("Rome and Oslo", ["Oslo", "Rome"], 1.0),
        ("Rome and Bern", ["Oslo", "Rome"], 0.0),
        ("not Paris", "Paris", 1.0),  # negation is not understood
        ("Rome, Oslo, Paris", "Paris", 1.0),  # nor is a list of guesses
        ("aXb", "a.b", 0.0),
        ("", "Paris", 0.0),
        ("\ud800 \x00 Paris", "Paris", 1.0),
    ],
)
def test_contains_match_finds_whole_words(completion, answer, reward):
    assert contains_match(completion, answer) == reward


def test_contains_match_can_respect_case():
    assert contains_match("the us won", "US", ignore_case=False) == 0.0
    assert contains_match("the US won", "US", ignore_case=False) == 1.0


@pytest.mark.parametrize(
    ("completion", "pattern", "reward"),
    [
        ("Answer: 7\nno,\nAnswer: 8", ANSWER_LINE, 1.0),
        ("Answer: 8\nno,\nAnswer: 7", ANSWER_LINE, 0.0),
        ("answer:   8  ", ANSWER_LINE, 1.0),
        ("7 8", r"\d", 1.0),
        ("8 7", r"\d", 0.0),
        ("x8", r"y(\d)|x\d", 0.0),
        ("Answer: 1 2 8", ANSWER_LINE, 0.0),
        ("8", ANSWER_LINE, 0.0),
        ("", ANSWER_LINE, 0.0),
        ("\ud800\x00", ANSWER_LINE, 0.0),
    ],
)
async def test_regex_match_takes_the_last_match_and_its_first_group(completion, pattern, reward):
    assert await regex_match(completion, "8", pattern=pattern) == reward


@pytest.mark.parametrize("text", ["1", " ", ",", "(", "a ", "é", "\x00", "\ud800", "no"])
async def test_long_completions_take_linear_time(text):
    completion = text * 250_000
    assert exact_match(completion, "Paris") == 0.0
    assert contains_match(completion, "Paris") == 0.0
    assert await regex_match(completion, "Paris", pattern=ANSWER_LINE) == 0.0


@pytest.mark.slow
async def test_a_completion_that_hangs_the_search_scores_0():
    assert await regex_match("a" * 64 + "b", "a", pattern="(a+)+$") == 0.0


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: exact_match("", " "), ValueError, "an exact_match answer must not be blank, got ' '"),
        (lambda: exact_match("5", 5), TypeError, "an exact_match answer must be a string, not 5"),
        (lambda: contains_match("", ""), ValueError, "a contains_match answer must not be blank, got ''"),
        (lambda: contains_match("", ["a", 5]), TypeError, "a contains_match answer must be a string, not 5"),
        (lambda: contains_match("", []), ValueError, "a contains_match answer must be one phrase or more, not []"),
        (lambda: contains_match("", 5), TypeError, "a contains_match answer must be a string, not 5"),
        (
            lambda: asyncio.run(regex_match("", "", pattern="a*")),
            ValueError,
            "a regex_match answer must not be blank, got ''",
        ),
        (
            lambda: asyncio.run(regex_match("", "a", pattern="(")),
            ValueError,
            "a regex_match pattern must be a regular expression, not '(': "
            "missing ), unterminated subpattern at position 0",
        ),
    ],
)
def test_a_mistake_of_the_author_is_one_sentence(call, error, sentence):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == sentence


@settings(deadline=None)
@given(ANY_TEXT, st.booleans())
def test_text_verifiers_score_any_text_0_or_1(completion, ignore_case):
    assert exact_match(completion, "a b", ignore_case=ignore_case) in (0.0, 1.0)
    assert contains_match(completion, ["a", "b"], ignore_case=ignore_case) in (0.0, 1.0)
    assert asyncio.run(regex_match(completion, "a", pattern=r"(\w)|\W")) in (0.0, 1.0)


@settings(deadline=None)
@given(ANY_TEXT.filter(str.strip))
def test_a_text_matches_itself(text):
    assert exact_match(text, text) == 1.0
    assert exact_match(text, text, ignore_case=True) == 1.0
    assert contains_match(text, text) == 1.0
