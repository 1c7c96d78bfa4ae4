"""The verifier of multiple-choice answers: finds the choice that the completion settles on."""

import re
from collections.abc import Sequence
from functools import lru_cache

_Mention = re.Match[str]
"""A choice in the completion. The name of the matching group is its kind: `stated` after words such as "the answer
is", `alone` on its line, `led` at the start of a line, `marked` with a parenthesis or in bold, or `bare`."""

_CUE = r"""(?i:
    (?: \b(?:answer|choice|option)[ \t*_]{0,9}(?:is\b|(?:would|should|must)[ ]be\b|[:=])
      | \\boxed\s{0,9}\{
      | <answer>\s{0,9}
    )
    (?:[ \t:*_`"'$(\[{<] | \\[a-z]{1,9}\{ | \b(?:option|choice|letter|either)\b){0,12}
)"""
_MENTION = r"""
    {cue}(?P<stated>(?ai:{label}))
    | ^[ \t>(\[*_`$]*(?P<alone>{label})[)\]*_`$.:]*[ \t]*$
    | ^[ \t>(\[*_`-]*(?P<led>{label})(?=[).])
    | (?P<marked>{label}(?=\)) | (?<=\*\*){label}(?=[.:]?\*\*))
    | (?P<bare>{label} | (?:(?<=[,/&|])|(?<=[,/&|][ ])|(?<=[ ]or[ ])|(?<=[ ]and[ ]))(?ai:{label}))
"""
_WORDS_THAT_ARE_LABELS = ("a", "i")
_LISTED = re.compile(r"(?:[^\w\n.\\]|\\[a-z]+|and|or)*")
_REPEATED = re.compile(r"(?:\W|and|or|answer)*")
_OPTION_TEXT = re.compile(r"[).:\]*]+[ \t]*[^\s,;.]")


def choice_match(completion: str, answer: str, *, choices: str | Sequence[str] = "ABCD") -> float:
    r"""Scores 1.0 when the choice that the completion settles on is the answer.

    * The last statement decides: `answer is (B)`, `Answer: B` (or option, or choice), `\boxed{B}`,
      `<answer>B</answer>`, or a last line that holds only the choice. After such words lower case will do.
    * Where nothing is stated, the last choice that is alone on its line, leads one (`B. ...`) or is marked (`(B)`,
      `B)`, `**B**`) decides; but none does where the completion mentions every choice, as a repeated question does.
    * `A` and `I` are skipped where they are English words: `A dog is ...`, `the answer is a dog`.
    * Several choices named together score 0.0: `A, B or C`, and statements with only punctuation, `and` or `or`
      between them. So does the whole list of options with their texts, in order, on the line of the last statement.

    Args:
        completion: Text that the policy wrote.
        answer: Label of the right choice.
        choices: Labels of all choices in the order of the question: a string of letters, or a sequence of strings.

    Raises:
        TypeError: A choice is not a string.
        ValueError: There are fewer than two choices, one is blank, two are the same apart from case, or the answer is
            not one of them.
    """
    labels = tuple(choices)
    if not all(isinstance(label, str) for label in labels):
        raise TypeError(f"choices must be strings, not {choices!r}")
    if len({label.casefold() for label in labels if label.strip()}) < max(len(labels), 2):
        raise ValueError(f"choices must be two or more different labels, not {choices!r}")
    if answer not in labels:
        raise ValueError(f"a choice_match answer must be one of {', '.join(labels)}, not {answer!r}")
    return float(_final_choice(completion, labels) == answer)


def _final_choice(completion: str, labels: tuple[str, ...]) -> str | None:
    mentions = list(_mention_pattern(labels).finditer(completion))
    last_line_end = len(completion.rstrip())
    final = None
    for index, mention in enumerate(mentions):
        if _kind(mention) == "stated" or (_kind(mention) == "alone" and mention.end() >= last_line_end):
            final = index
    if final is None:
        return _last_marked_choice(completion, mentions, labels)
    if _opens_options(completion, mentions[final:], labels):
        return None
    return _only_choice(completion, mentions, final, labels)


def _last_marked_choice(completion: str, mentions: list[_Mention], labels: tuple[str, ...]) -> str | None:
    if {_label(mention, labels) for mention in mentions} == set(labels):
        return None
    marked = [index for index, mention in enumerate(mentions) if _kind(mention) != "bare"]
    return _only_choice(completion, mentions, marked[-1], labels) if marked else None


def _only_choice(completion: str, mentions: list[_Mention], index: int, labels: tuple[str, ...]) -> str | None:
    """The choice of a mention and of all others named together with it; None where they differ."""
    first = last = index
    while first > 0 and _are_together(completion, mentions[first - 1], mentions[first]):
        first -= 1
    while last + 1 < len(mentions) and _are_together(completion, mentions[last], mentions[last + 1]):
        last += 1
    named = {_label(mention, labels) for mention in mentions[first : last + 1]}
    return named.pop() if len(named) == 1 else None


def _are_together(completion: str, left: _Mention, right: _Mention) -> bool:
    left_end = left.end(_kind(left))
    if _LISTED.fullmatch(completion, left_end, right.start(_kind(right))):
        return True
    same_kind = _kind(left) == _kind(right) != "bare"
    return same_kind and _REPEATED.fullmatch(completion, left_end, right.start()) is not None


def _opens_options(completion: str, mentions: list[_Mention], labels: tuple[str, ...]) -> bool:
    """Whether the first mention and the others on its line are all the options of the question, each with its text."""
    line_end = completion.find("\n", mentions[0].end())
    options: dict[str, None] = {}
    for mention in mentions:
        end = mention.end(_kind(mention))
        if 0 <= line_end < end:
            break
        if _OPTION_TEXT.match(completion, end):
            options[_label(mention, labels)] = None
    return tuple(options) == labels


@lru_cache
def _mention_pattern(labels: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(labels, key=len, reverse=True)
    alternatives = "|".join(_label_pattern(label) for label in longest_first)
    label = rf"(?<![A-Za-z0-9])(?:{alternatives})(?!['\u2019-]?[A-Za-z0-9])"
    return re.compile(_MENTION.format(cue=_CUE, label=label), re.VERBOSE | re.MULTILINE)


def _label_pattern(label: str) -> str:
    if label.casefold() not in _WORDS_THAT_ARE_LABELS:
        return re.escape(label)
    return re.escape(label) + r"(?![ \t]+(?!(?:and|or|because|since|as|but)\b)[a-zA-Z]{2,})"


def _kind(mention: _Mention) -> str:
    return str(mention.lastgroup)


def _label(mention: _Mention, labels: tuple[str, ...]) -> str:
    found = mention[_kind(mention)].casefold()
    return next(label for label in labels if label.casefold() == found)
