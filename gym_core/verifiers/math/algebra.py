"""Equality of plain LaTeX answers, decided without a computer algebra system where the verdict is certain."""

import math
import re
from collections.abc import Iterable
from fractions import Fraction

from gym_core.verifiers.math.latex import VARIABLES, Value, latex_value

_MAX_CHARACTERS = 400
_MAX_ELEMENTS = 16
_MAX_DIGITS = 15
"""Longest decimal, in characters; math-verify keeps longer ones in a precision of their own."""
_CLEARANCE = Fraction(1, 100_000)
"""Values closer than this are left open: math-verify rounds decimals to six places, and drops small terms."""
_RELATIVE_CLEARANCE = 1e-9
_HALF = Fraction(1, 1000)
"""A value closer than this to the middle between two roundings is left open."""

_IGNORED = re.compile(r"\\(?:left|right)(?=[^a-z])|\\displaystyle|\\!|\\\$|\$")
_FRACTION = re.compile(r"\\[dtc]frac(?![a-z])")
_SHORT_FRACTION = re.compile(r"\\frac\s?([0-9])([0-9])(?![0-9])")
_MIXED = re.compile(r"^(-?)([0-9]+)(?=\\frac\{[0-9]+\}\{[0-9]+\}$)")
_EXPONENT = re.compile(r"\^\s?\(([^()]*)\)")
_GROUPED = re.compile(r"-?[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_UNIT = re.compile(r"(?<=[0-9}])\s*(?:\\(?:text|mathrm)\{[ A-Za-z]+\}|\^\{?\\circ\}?|°)$")
_ASSIGNMENT = re.compile(rf"(?P<name>[{''.join(VARIABLES)}])\s*=\s*(?P<value>[^=]+)")
_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?(?:/[0-9]+)?|-?\\frac\{[0-9]+\}\{[0-9]+\}")
_ELEMENT = r"(?:[^,()\[\]\\]|\\(?![{}]))+"
_LIST = re.compile(rf"(?P<open>\\{{|[(\[]|)(?P<elements>{_ELEMENT}(?:,{_ELEMENT})+)(?P<close>\\}}|[)\]]|)")
_IMAGINARY = re.compile(r"(?<!\\p)i")
_SUM_WITH_I = re.compile(r"[-+0-9.\s]*(?:i(?:\s*[-+][0-9.\s]*)?)?")
_AMBIGUOUS_COMMA = re.compile(r"[0-9],[0-9]{3}(?![0-9])")


def algebra_match(gold: str, found: str) -> bool | None:
    """Whether math-verify takes two LaTeX texts to be equal; None where that is not certain."""
    if len(gold) + len(found) > _MAX_CHARACTERS:
        return None
    gold, found = _simplify(gold), _simplify(found)
    golds, founds = _elements(gold), _elements(found)
    try:
        if golds and founds:
            return _lists_match(golds, founds)
        if golds or founds:
            return False if _is_one_of_many(golds or founds, found if golds else gold) else None
        return _assignments_match(gold, found)
    except (ValueError, ArithmeticError, RecursionError):
        return None


def _simplify(text: str) -> str:
    text = _FRACTION.sub(r"\\frac", _IGNORED.sub("", text)).replace("{,}", ",").strip()
    text = _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", _EXPONENT.sub(r"^{\1}", text))
    text = _MIXED.sub(lambda match: match[0] + (match[1] or "+"), _UNIT.sub("", text))
    return text.replace(",", "") if _GROUPED.fullmatch(text) else text


def _elements(text: str) -> tuple[str, ...]:
    """The brackets of a list, empty for a bare list, and then its elements; nothing if the text is not a list."""
    match = _LIST.fullmatch(text)
    if match is None or _AMBIGUOUS_COMMA.search(text):
        return ()
    return (match["open"] + match["close"], *(element.strip() for element in match["elements"].split(",")))


def _is_one_of_many(many: tuple[str, ...], one: str) -> bool:
    """Whether these are a list of different numbers and a single number."""
    _, first, second, *_ = many
    are_numbers = all(_NUMBER.fullmatch(text) for text in (first, second, one))
    return are_numbers and _values_match(first, second) is False


def _lists_match(golds: tuple[str, ...], founds: tuple[str, ...]) -> bool | None:
    brackets = golds[0]
    if brackets in ("", r"\{\}") and founds[0] in ("", r"\{\}"):
        return _sets_match(golds[1:], founds[1:])
    if brackets == founds[0] == "()" and len(golds) == len(founds):
        return _all(map(_values_match, golds[1:], founds[1:]))
    return _intervals_match(golds, founds) if len(golds) == len(founds) == 3 else None


def _intervals_match(golds: tuple[str, ...], founds: tuple[str, ...]) -> bool | None:
    start, end, found_start, found_end = (latex_value(text) for text in (*golds[1:], *founds[1:]))
    is_interval = start < end and found_start < found_end and "" not in (golds[0], founds[0])
    if not is_interval or "{" in golds[0] + founds[0]:
        return None
    return _all(map(_values_match, golds[1:], founds[1:])) if golds[0] == founds[0] else False


def _all(matches: Iterable[bool | None]) -> bool | None:
    known = set(matches)
    return False if False in known else None if None in known else True


def _sets_match(golds: tuple[str, ...], founds: tuple[str, ...]) -> bool | None:
    if max(len(golds), len(founds)) > _MAX_ELEMENTS:
        return None
    matches = [[_values_match(gold, found) for found in founds] for gold in golds]
    rows = [*matches, *zip(*matches, strict=True)]
    if any(all(match is False for match in row) for row in rows):
        return False
    return True if all(True in row for row in rows) else None


def _assignments_match(gold: str, found: str) -> bool | None:
    left, right = _ASSIGNMENT.fullmatch(gold), _ASSIGNMENT.fullmatch(found)
    gold, found = left["value"] if left else gold, right["value"] if right else found
    if left and right and not (left["name"] == right["name"] and _NUMBER.fullmatch(gold) and _NUMBER.fullmatch(found)):
        return None
    return _values_match(gold, found)


def _values_match(gold: str, found: str) -> bool | None:
    if _IMAGINARY.search(gold + found) and not (_SUM_WITH_I.fullmatch(gold) and _SUM_WITH_I.fullmatch(found)):
        return None
    left, right = latex_value(gold), latex_value(found)
    if _is_clear(left, right):
        return False
    if isinstance(left, float) or isinstance(right, float):
        return None
    if _NUMBER.fullmatch(gold) and _NUMBER.fullmatch(found):
        return _numbers_match(gold, left, found, right)
    # math-verify rounds the decimals of an expression, and compares a lone variable by its name.
    is_lone = any(text.strip("+() ") in (*VARIABLES, "e") for text in (gold, found))
    return True if left == right and "." not in gold + found and not is_lone else None


def _numbers_match(gold: str, left: Fraction, found: str, right: Fraction) -> bool | None:
    """Whether two numbers are equal: when rounded to six places, if one of them is a decimal."""
    if "." not in gold + found:
        return left == right
    if max(len(gold), len(found)) > _MAX_DIGITS:
        return None
    if left == right:
        return True
    scaled = [abs(value) * 10**6 % 1 for value in (left, right)]
    if 1 in (left.denominator, right.denominator) or any(abs(part - Fraction(1, 2)) < _HALF for part in scaled):
        return None
    return round(left, 6) == round(right, 6)


def _is_clear(left: Value, right: Value) -> bool:
    """Whether two values differ by more than any rounding."""
    if math.inf in (abs(left), abs(right)):
        return abs(left) != abs(right)
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return abs(left - right) > _CLEARANCE
    near, far = float(left), float(right)
    return abs(near - far) > max(float(_CLEARANCE), _RELATIVE_CLEARANCE * max(abs(near), abs(far)))
