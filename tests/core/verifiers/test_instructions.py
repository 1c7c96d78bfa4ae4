import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gym_core.verifiers import instruction_match
from gym_core.verifiers.instructions import _CHECKS


def row(name: str, **kwargs) -> dict:
    return {"instruction_id_list": [name], "kwargs": [kwargs]}


WORDS = {"num_words": 3, "relation": "at least"}
SENTENCES = {"num_sentences": 2, "relation": "at least"}
SECOND_OF_TWO = {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"}


@pytest.mark.parametrize(
    ("name", "kwargs", "completion", "reward"),
    [
        ("keywords:existence", {"keywords": ["cat", "dog"]}, "A DOG and categories.", 1.0),
        ("keywords:existence", {"keywords": ["cat", "dog"]}, "A dog.", 0.0),
        ("keywords:existence", {"keywords": ["C++ (2)"]}, "in c++ (2)", 1.0),
        ("keywords:frequency", {"keyword": "ha", "frequency": 2, "relation": "at least"}, "Haha", 1.0),
        ("keywords:frequency", {"keyword": "ha", "frequency": 2, "relation": "less than"}, "Haha", 0.0),
        ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "The Cat.", 0.0),
        ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "categories", 1.0),
        ("keywords:letter_frequency", {"letter": "a", "let_frequency": 2, "let_relation": "at least"}, "Ada", 1.0),
        ("keywords:letter_frequency", {"letter": "#", "let_frequency": 1, "let_relation": "less than"}, "# Ada", 0.0),
        ("length_constraints:number_words", WORDS, "two words", 0.0),
        ("length_constraints:number_words", WORDS, "don't stop", 1.0),  # as the release counts: don, t, stop
        ("length_constraints:number_sentences", SENTENCES, "Dr. J. Smith paid $3.50 e.g. for tea.", 0.0),
        ("length_constraints:number_sentences", SENTENCES, 'He said "Wait!" And I did', 1.0),
        ("length_constraints:number_sentences", SENTENCES, "Wait... what", 1.0),
        ("length_constraints:number_sentences", SENTENCES, "So did I. Then we left?!", 1.0),
        ("length_constraints:number_sentences", SENTENCES, "She said no. We left at 5 p.m. on foot", 1.0),
        ("length_constraints:number_sentences", SENTENCES, "你好。再见。", 1.0),
        ("length_constraints:number_sentences", SENTENCES, ". . . !", 0.0),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one\n***\ntwo", 1.0),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\none *** two\n***", 1.0),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one\n******\ntwo", 0.0),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one\n\ntwo", 0.0),
        ("length_constraints:nth_paragraph_first_word", SECOND_OF_TWO, "One.\n\n'Then, two.", 1.0),
        ("length_constraints:nth_paragraph_first_word", SECOND_OF_TWO, "One.\n\nThence two.", 0.0),
        ("length_constraints:nth_paragraph_first_word", SECOND_OF_TWO, "One.\n\nThen two.\n\nThree.", 0.0),
        ("length_constraints:nth_paragraph_first_word", SECOND_OF_TWO, "One.\n\n\n\nThen two.", 1.0),
        ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name], [home address]", 1.0),
        ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name], []", 0.0),
        ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\np. s. more", 1.0),
        ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\nP.S. more", 0.0),
        ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n  - b\n**c**\n---", 1.0),
        ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b\n* c", 0.0),
        ("detectable_format:constrained_response", {}, "Well: My answer is no.", 1.0),
        ("detectable_format:constrained_response", {}, "My answer is yes. My answer is no.", 0.0),
        ("detectable_format:constrained_response", {}, "My answer is no", 0.0),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*one* and **two**", 1.0),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*one* ** ** ****** x ******", 0.0),
        ("detectable_format:multiple_sections", {"section_spliter": "Day", "num_sections": 2}, "Day 1\nDay2", 1.0),
        ("detectable_format:multiple_sections", {"section_spliter": "Day", "num_sections": 2}, "Day 1 day 2", 0.0),
        ("detectable_format:json_format", {}, "```JSON\n[1]\n```", 1.0),
        ("detectable_format:json_format", {}, "`````", 0.0),
        ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', 1.0),
        ("detectable_format:json_format", {}, '{"a": [1]} there', 0.0),
        ("detectable_format:json_format", {}, "[" * 100_000, 0.0),
        ("detectable_format:title", {}, "<<Joy>>\nText", 1.0),
        ("detectable_format:title", {}, "<< >> <<>> <Joy>", 0.0),
        ("combination:two_responses", {}, "one\n******\ntwo\n******", 1.0),
        ("combination:two_responses", {}, "one\n******\none", 0.0),
        ("combination:two_responses", {}, "one\n******\ntwo\n******\nthree", 0.0),
        ("combination:repeat_prompt", {"prompt_to_repeat": "Write a poem."}, " write a poem. Roses", 1.0),
        ("combination:repeat_prompt", {"prompt_to_repeat": "Write a poem."}, "Sure. Write a poem.", 0.0),
        ("startend:end_checker", {"end_phrase": "The end."}, 'So it is. THE END."\n', 1.0),
        ("startend:end_checker", {"end_phrase": "The end."}, "The end. Or not", 0.0),
        ("startend:quotation", {}, '"All of it."\n', 1.0),
        ("startend:quotation", {}, '"', 0.0),
        ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, "I AM", 1.0),
        ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "less than"}, "A-B c", 1.0),
        ("change_case:english_capital", {}, "YES, 3!", 1.0),
        ("change_case:english_capital", {}, "123", 0.0),
        ("change_case:english_lowercase", {}, "no I in it", 0.0),
        ("change_case:english_lowercase", {}, "all small", 1.0),
        ("punctuation:no_comma", {}, "a, b", 0.0),
        ("punctuation:no_comma", {}, "a; b", 1.0),
    ],
)
def test_an_instruction_is_followed_or_not(name, kwargs, completion, reward):
    assert instruction_match(completion, row(name, **kwargs)) == reward


def test_the_score_is_the_share_of_the_instructions():
    answer = {
        "instruction_id_list": ["punctuation:no_comma", "detectable_format:title", "startend:quotation"],
        "kwargs": [{}, None, {"num_words": None, "relation": None}],  # rows of the dataset are padded
    }
    assert instruction_match("<<Joy>>", answer) == pytest.approx(2 / 3)
    assert instruction_match("<<Joy>>", answer, prompt_level=True) == 0.0
    assert instruction_match('"<<Joy>>"', answer, prompt_level=True) == 1.0


@pytest.mark.parametrize("completion", ["", " \n"])
def test_the_empty_completion_follows_nothing(completion):
    assert instruction_match(completion, row("punctuation:no_comma")) == 0.0
    assert instruction_match(completion, row("punctuation:no_comma"), prompt_level=True) == 0.0


def test_24_of_the_25_instructions_are_known():
    assert len(_CHECKS) == 24


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (row("language:response_language", language="de"), "an instruction must be one of .*, not 'language:"),
        (row("startend:end_checker"), "the instruction 'startend:end_checker' takes end_phrase, not {}"),
        (row("punctuation:no_comma", n=1), "the instruction 'punctuation:no_comma' takes no arguments, not {'n': 1}"),
        (
            row("length_constraints:number_words", num_words=3, relation="more than"),
            "a relation must be 'at least' or 'less than', not 'more than'",
        ),
        ({"instruction_id_list": ["punctuation:no_comma"], "kwargs": []}, "must have instruction_id_list and as many"),
        ({"instruction_id_list": [], "kwargs": []}, "must have one instruction or more"),
        ({}, "must have instruction_id_list and as many kwargs, not {}"),
        (None, "must have instruction_id_list and as many kwargs, not None"),
    ],
)
def test_a_mistake_of_the_author_is_one_sentence(answer, sentence):
    with pytest.raises(ValueError, match=sentence):
        instruction_match("x", answer)


ARGUMENTS = {
    "num_words": 3, "relation": "at least", "keywords": ["a"], "keyword": "a", "frequency": 2, "forbidden_words": ["a"],
    "letter": "a", "let_frequency": 2, "let_relation": "less than", "num_sentences": 2, "num_paragraphs": 2,
    "nth_paragraph": 1, "first_word": "a", "num_placeholders": 1, "postscript_marker": "P.S.", "num_bullets": 1,
    "num_highlights": 1, "section_spliter": "A", "num_sections": 1, "prompt_to_repeat": "a", "end_phrase": "a",
    "capital_frequency": 1, "capital_relation": "at least",
}  # fmt: skip
ALL = {
    "instruction_id_list": list(_CHECKS),
    "kwargs": [{name: ARGUMENTS[name] for name in expected} for _, expected in _CHECKS.values()],
}


@settings(deadline=None)
@given(st.text(st.characters(), max_size=200) | st.text('aA \n*-[]<>".,!1{}`'))
def test_instruction_match_scores_any_text(completion):
    share = instruction_match(completion, ALL)
    assert 0.0 <= share <= 1.0
    assert instruction_match(completion, ALL, prompt_level=True) == float(share == 1.0)


@pytest.mark.parametrize("start", ["", "```"])
@pytest.mark.parametrize(
    "text", ["a", ".", ". ", "*", "* ", "[", "<<", "<< ", "-", "a-", "A.", "```", "***", "\n", '"', " "]
)
def test_long_completions_take_linear_time(start, text):
    started_s = time.process_time()
    instruction_match(start + text * 30_000 + "x", ALL)
    assert time.process_time() - started_s < 2
