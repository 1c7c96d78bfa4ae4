"""The verifier of instructions: those of IFEval (Zhou et al. 2023, arXiv:2311.07911), under its names."""

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# fmt: off
_ABBREVIATIONS = frozenset({
    "al", "approx", "aug", "capt", "cf", "co", "corp", "dec", "dept", "dr", "e.g", "eq", "feb", "fig", "gov", "hon",
    "i.e", "inc", "jan", "jr", "ltd", "mr", "mrs", "ms", "mt", "nov", "oct", "ph.d", "pp", "prof", "rev", "sen",
    "sep", "sept", "sr", "st", "u.k", "u.s", "vol", "vs",
})
# fmt: on
_LONGEST_ABBREVIATION = 8
_SENTENCE_END = re.compile(
    r"(?<![.!?\u2026])(?P<mark>[.!?\u2026]++)[\"'\u201d\u2019)\]*_]*+(?=\s|\Z)|[\u3002\uff01\uff1f]"
)
_LAST_WORD = re.compile(r"(?<![\w.])[\w.]+\Z")
_FENCE = "```"
_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def instruction_match(completion: str, answer: Mapping[str, Any], *, prompt_level: bool = False) -> float:
    """Scores the share of the instructions that the completion follows: IFEval's strict accuracy.

    It knows the 25 instructions of the paper's table 1, except `language:response_language`, which would need a
    language detector. Where the paper is silent, its code decides (github.com/google-research/google-research, folder
    instruction_following_eval), with these differences: sentences are split by rules instead of NLTK's model, the
    language of a text in capitals is not checked, keywords are literal, a bullet is followed by a space, and a
    constrained response must give exactly one of its options. The empty completion follows no instruction.

    Args:
        completion: Text that the policy wrote.
        answer: Row of the IFEval dataset: `instruction_id_list`, and `kwargs` with one mapping per instruction, in
            which None means that the argument is absent.
        prompt_level: Whether the score is 1.0 when all instructions are followed and 0.0 otherwise.

    Raises:
        ValueError: An instruction is unknown, or its arguments differ from the dataset's.
    """
    checks = _author_checks(answer)
    if not completion.strip():
        return 0.0
    followed = [check(completion, **arguments) for check, arguments in checks]
    return float(all(followed)) if prompt_level else sum(followed) / len(followed)


def _author_checks(answer: Mapping[str, Any]) -> list[tuple[Callable[..., bool], dict[str, Any]]]:
    try:
        rows = list(zip(answer["instruction_id_list"], answer["kwargs"], strict=True))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"an instruction_match answer must have instruction_id_list and as many kwargs, not {answer!r}"
        ) from error
    if not rows:
        raise ValueError(f"an instruction_match answer must have one instruction or more, not {answer!r}")
    return [_author_check(name, kwargs or {}) for name, kwargs in rows]


def _author_check(name: str, kwargs: Mapping[str, Any]) -> tuple[Callable[..., bool], dict[str, Any]]:
    if name not in _CHECKS:
        raise ValueError(f"an instruction must be one of {', '.join(sorted(_CHECKS))}, not {name!r}")
    check, expected = _CHECKS[name]
    given = {argument: value for argument, value in kwargs.items() if value is not None}
    if given.keys() != expected:
        wanted = ", ".join(sorted(expected)) or "no arguments"
        raise ValueError(f"the instruction {name!r} takes {wanted}, not {given!r}")
    return check, given


def _is_related(count: int, relation: str, limit: int) -> bool:
    if relation == "at least":
        return count >= limit
    if relation == "less than":
        return count < limit
    raise ValueError(f"a relation must be 'at least' or 'less than', not {relation!r}")


def _has_keywords(text: str, *, keywords: Sequence[str]) -> bool:
    return all(keyword.lower() in text.lower() for keyword in keywords)


def _has_keyword_often(text: str, *, keyword: str, frequency: int, relation: str) -> bool:
    return _is_related(text.lower().count(keyword.lower()), relation, frequency)


def _has_no_forbidden_words(text: str, *, forbidden_words: Sequence[str]) -> bool:
    return not any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in forbidden_words)


def _has_letter_often(text: str, *, letter: str, let_frequency: int, let_relation: str) -> bool:
    return _is_related(text.lower().count(letter.lower()), let_relation, let_frequency)


def _has_sentences(text: str, *, num_sentences: int, relation: str) -> bool:
    return _is_related(_count_sentences(text), relation, num_sentences)


def _count_sentences(text: str) -> int:
    ends = [match.end() for match in _SENTENCE_END.finditer(text) if not _is_abbreviated(text, match)]
    starts = [0, *ends]
    return sum(bool(re.search(r"\w", text[start:end])) for start, end in zip(starts, [*ends, len(text)], strict=True))


def _is_abbreviated(text: str, end: re.Match[str]) -> bool:
    """Whether a full stop belongs to an abbreviation or an initial."""
    word = _LAST_WORD.search(text, max(0, end.start() - _LONGEST_ABBREVIATION), end.start())
    if word is None or end["mark"] != ".":
        return False
    return word[0].lower() in _ABBREVIATIONS or (len(word[0]) == 1 and word[0].isupper() and word[0] != "I")


def _has_words(text: str, *, num_words: int, relation: str) -> bool:
    return _is_related(len(re.findall(r"\w+", text)), relation, num_words)


def _has_paragraphs(text: str, *, num_paragraphs: int) -> bool:
    """Whether `***` separates this many paragraphs; one before the first and one after the last are allowed."""
    paragraphs = [paragraph.strip() for paragraph in text.split("***")]
    inner = paragraphs[not paragraphs[0] : len(paragraphs) - (not paragraphs[-1])]
    return all(inner) and len(inner) == num_paragraphs


def _has_first_word(text: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Whether blank lines separate this many paragraphs, one of which starts with the word."""
    paragraphs = [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]
    if len(paragraphs) != num_paragraphs or not 1 <= nth_paragraph <= num_paragraphs:
        return False
    found = re.match(r"\W*([\w-]*)", paragraphs[int(nth_paragraph) - 1])
    return found is not None and found[1].lower() == first_word.lower()


def _has_placeholders(text: str, *, num_placeholders: int) -> bool:
    return len(re.findall(r"\[[^\[\]\n]+\]", text)) >= num_placeholders


def _has_postscript(text: str, *, postscript_marker: str) -> bool:
    marker = r"\s?".join(map(re.escape, postscript_marker.replace(" ", "")))
    return re.search(marker, text, re.IGNORECASE) is not None


def _has_bullets(text: str, *, num_bullets: int) -> bool:
    return len(re.findall(r"^[ \t]*[*-][ \t]+\S", text, re.MULTILINE)) == num_bullets


def _is_one_option(text: str) -> bool:
    return sum(option in text for option in _OPTIONS) == 1


def _has_highlights(text: str, *, num_highlights: int) -> bool:
    highlights = re.findall(r"(?<!\*)\*{1,2}([^\n*]+)\*{1,2}(?!\*)", text)
    return sum(bool(highlight.strip()) for highlight in highlights) >= num_highlights


def _has_sections(text: str, *, section_spliter: str, num_sections: int) -> bool:
    return len(re.findall(rf"{re.escape(section_spliter)}\s?[0-9]+", text)) >= num_sections


def _is_json(text: str) -> bool:
    stripped = text.strip()
    if stripped.startswith(_FENCE) and stripped.endswith(_FENCE) and len(stripped) >= 2 * len(_FENCE):
        block = stripped[len(_FENCE) : -len(_FENCE)]
        text = block[4:] if block[:4].lower() == "json" else block
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _has_title(text: str) -> bool:
    return any(title.strip() for title in re.findall(r"<<([^\n<>]+)>>", text))


def _are_two_responses(text: str) -> bool:
    """Whether `******` separates two different responses; it may also come before the first and after the last."""
    responses = [response.strip() for response in text.split("******")]
    inner = responses[not responses[0] : len(responses) - (not responses[-1])]
    return all(inner) and len(inner) == 2 and inner[0] != inner[1]


def _repeats_prompt(text: str, *, prompt_to_repeat: str) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def _ends_with(text: str, *, end_phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def _has_capital_words(text: str, *, capital_frequency: int, capital_relation: str) -> bool:
    words = re.findall(r"\w+(?:[-.]\w+)*", text)
    return _is_related(sum(word.isupper() for word in words), capital_relation, capital_frequency)


def _has_no_comma(text: str) -> bool:
    return "," not in text


def _is_quoted(text: str) -> bool:
    stripped = text.strip()
    return len(stripped) > 1 and stripped[0] == stripped[-1] == '"'


_FUNCTIONS: dict[str, Callable[..., bool]] = {
    "change_case:capital_word_frequency": _has_capital_words,
    "change_case:english_capital": lambda text: text.isupper(),
    "change_case:english_lowercase": lambda text: text.islower(),
    "combination:repeat_prompt": _repeats_prompt,
    "combination:two_responses": _are_two_responses,
    "detectable_content:number_placeholders": _has_placeholders,
    "detectable_content:postscript": _has_postscript,
    "detectable_format:constrained_response": _is_one_option,
    "detectable_format:json_format": _is_json,
    "detectable_format:multiple_sections": _has_sections,
    "detectable_format:number_bullet_lists": _has_bullets,
    "detectable_format:number_highlighted_sections": _has_highlights,
    "detectable_format:title": _has_title,
    "keywords:existence": _has_keywords,
    "keywords:forbidden_words": _has_no_forbidden_words,
    "keywords:frequency": _has_keyword_often,
    "keywords:letter_frequency": _has_letter_often,
    "length_constraints:nth_paragraph_first_word": _has_first_word,
    "length_constraints:number_paragraphs": _has_paragraphs,
    "length_constraints:number_sentences": _has_sentences,
    "length_constraints:number_words": _has_words,
    "punctuation:no_comma": _has_no_comma,
    "startend:end_checker": _ends_with,
    "startend:quotation": _is_quoted,
}
_CHECKS = {
    name: (check, frozenset(list(inspect.signature(check).parameters)[1:])) for name, check in _FUNCTIONS.items()
}
