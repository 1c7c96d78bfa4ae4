"""The verifier of numbers: compares values, not spellings."""

import re
from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

_MAX_DIGITS = 4300
"""Largest number of digits, as in Python's `int`; an exponent may have four."""
_MAX_EXPONENT_CHARACTERS = 5

_THIN_SPACE = "\u2009"
_SPELLINGS = {
    "\u2212": "-",  # minus sign
    "\u2013": "-",  # en dash
    "\u2044": "/",  # fraction slash
    "\u00d7": "*",  # multiplication sign
    "\u22c5": "*",  # dot operator
    "\u00b7": "*",  # middle dot
    "\u00a0": _THIN_SPACE,
    "\u202f": _THIN_SPACE,
    r"\times": "*",
    r"\cdot": "*",
    r"\,": _THIN_SPACE,
    r"\!": "",
    r"\$": "$",
    "{,}": ",",
}
_SUPERSCRIPT_DIGITS = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"
_SUPERSCRIPT = re.compile(f"\u207b?[{_SUPERSCRIPT_DIGITS}]+")
_SUPERSCRIPT_VALUES = str.maketrans("\u207b" + _SUPERSCRIPT_DIGITS, "-0123456789")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac *\{ *(-?[0-9.,]+) *\} *\{ *([0-9.,]+) *\}")

_DIGITS = rf"(?:(?<![0-9][,_{_THIN_SPACE}])[1-9][0-9]{{0,2}}(?:[,_{_THIN_SPACE}][0-9]{{3}})+(?![0-9])|[0-9]+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.[0-9]+)?|(?<![0-9A-Za-z.)])\.[0-9]+)"
_SCIENTIFIC = rf"{_DECIMAL}(?:[eE][-+]?[0-9]+)?"
# Alternatives that start with a digit consume a long run of digits whole, so that the scan stays linear.
_SCANNER = re.compile(
    rf"""
    [0-9]+(?P<joint>[-./:])[0-9]+(?:(?P=joint)[0-9]+)+           # a date, time or version
    | [A-Za-z](?:_?[A-Za-z0-9]|(?<=[0-9])\.(?=[0-9]))*           # a word: km, v2.5, H2O
    | (?:\^|(?<=[0-9A-Za-z)}}\]])_)\{{?[-+]?[0-9.]+              # an exponent or index: m^2, x_{{1}}
    | (?P<number>
        (?:(?<![-0-9A-Za-z)\]}}%])(?P<sign>[-+])[$\u20ac\u00a3\u00a5\u20b9]?)?
        (?:
            (?:(?P<factor>{_DECIMAL})[ ]?[*xX][ ]?)?10\^\{{?(?P<power>[-+]?[0-9]+)(?![0-9]|\.[0-9])
            | (?:(?P<whole>{_DIGITS})[ ])?(?P<top>{_SCIENTIFIC})[ ]?/[ ]?(?P<bottom>{_SCIENTIFIC})(?![0-9/]|\.[0-9])
            | (?P<plain>{_SCIENTIFIC})
        )
        (?P<raised>\^\{{?[-+]?[0-9.]+)?
    )
    """,
    re.VERBOSE,
)


def number_match(
    completion: str,
    answer: float | str | Fraction | Decimal,
    *,
    after: str | None = None,
    tolerance: float = 0.0,
) -> float:
    r"""Scores 1.0 when the last number of the completion has the value of the answer.

    Values are compared exactly, a float as its shortest decimal (`0.1` is one tenth). Numbers are read like this:

    * A sign touches its number and nothing before it: `3-4` ends in 4, `3 -4` in -4, `- 4` in 4.
    * A comma, underscore, no-break or thin space groups by threes: `1,234,567` is one number, `1,23` is 1 and then 23.
      The decimal sign is always a point.
    * A unit that touches a number from behind is ignored, percent included: `45%` is 45 and `12km` is 12. So is a
      currency sign before it.
    * Digits within a word (`v2`, `H2O`), an exponent or index (`m^2`, `x_1`), and three or more numbers joined by the
      same sign (`2024-05-01`, `1.2.3`, `12:30:00`) are not numbers.
    * `3/4` and `\frac{3}{4}` are fractions; after an integer and one space a proper fraction makes a mixed number:
      `1 1/2` is 3/2, and `2 7/5` ends in 7/5.
    * `2.5e3`, `2.5 \times 10^{3}` and `10^3` are powers of ten. Nothing else is calculated: `2^10` and `3/0`, like
      numbers of more than 4300 digits and exponents of more than four, equal no answer.

    Args:
        completion: Text that the policy wrote.
        answer: Expected number; a string must hold exactly one, by the same rules.
        after: Marker: the first number after its last occurrence counts, and a completion without the marker scores
            0.0. GSM8K's is `####` (Cobbe et al. 2021, arXiv:2110.14168); `\boxed{` works as well.
        tolerance: Largest absolute difference that still scores.

    Raises:
        TypeError: The answer or the tolerance is not a number; a bool does not count as one.
        ValueError: The answer is not one finite number, the tolerance is negative, or the marker is empty.
    """
    expected = _author_number(answer, "a number_match answer must be a number")
    allowed = _author_number(tolerance, "a tolerance must be a number >= 0")
    if allowed < 0:
        raise ValueError(f"a tolerance must be a number >= 0, not {tolerance!r}")
    if after == "":
        raise ValueError("after must be None or a marker, not ''")
    found = _last_number(completion) if after is None else _number_after(completion, after)
    return float(found is not None and abs(found - expected) <= allowed)


def _author_number(number: object, expectation: str) -> Fraction:
    if isinstance(number, bool) or not isinstance(number, int | float | str | Fraction | Decimal):
        raise TypeError(f"{expectation}, not {number!r}")
    if isinstance(number, str):
        values = [_value(match) for match in _numbers(number)]
        value = values[0] if len(values) == 1 else None
        if value is None:
            raise ValueError(f"{expectation}, not {number!r}")
        return value
    try:
        return Fraction(float.__repr__(number) if isinstance(number, float) else number)
    except (ValueError, OverflowError) as error:  # NaN or infinite
        raise ValueError(f"{expectation}, not {number!r}") from error


def _last_number(text: str) -> Fraction | None:
    last = deque(_numbers(text), maxlen=1)
    return _value(last[0]) if last else None


def _number_after(text: str, marker: str) -> Fraction | None:
    _, found, rest = text.rpartition(marker)
    first = next(_numbers(rest), None) if found else None
    return _value(first) if first else None


def _numbers(text: str) -> Iterator[re.Match[str]]:
    return (match for match in _SCANNER.finditer(_plain(text)) if match["number"])


def _plain(text: str) -> str:
    """Rewrites the spellings of Unicode and LaTeX in ASCII, except for the thin space."""
    for spelling, plain in _SPELLINGS.items():
        text = text.replace(spelling, plain)
    text = _SUPERSCRIPT.sub(lambda match: "^" + match[0].translate(_SUPERSCRIPT_VALUES), text)
    text = re.sub(r"(?<=[0-9}])(?=\\[dt]?frac)", " ", text)  # 1\frac{1}{2} is 1 1/2
    return _LATEX_FRACTION.sub(r"\1/\2 ", text)


def _value(match: re.Match[str]) -> Fraction | None:
    """The value of a number; None where it would have to be calculated."""
    if match["raised"]:
        return None
    if match["power"]:
        size = _decimal(f"{match['factor'] or 1}e{match['power']}")
    elif match["top"]:
        return _fraction(match)
    else:
        size = _decimal(match["plain"])
    return _signed(size, match)


def _fraction(match: re.Match[str]) -> Fraction | None:
    top, bottom, whole = (_decimal(match[part] or "0") for part in ("top", "bottom", "whole"))
    if top is None or bottom is None or whole is None or bottom == 0:
        return None
    if match["whole"] is None:
        return _signed(top / bottom, match)
    if top >= bottom:
        return top / bottom  # two numbers; the sign belongs to the first
    return _signed(whole + top / bottom, match)


def _signed(size: Fraction | None, match: re.Match[str]) -> Fraction | None:
    return -size if size is not None and match["sign"] == "-" else size


def _decimal(literal: str) -> Fraction | None:
    mantissa, _, exponent = re.sub(f"[,_{_THIN_SPACE}]", "", literal).lower().partition("e")
    if len(mantissa) > _MAX_DIGITS or len(exponent) > _MAX_EXPONENT_CHARACTERS:
        return None
    return Fraction(Decimal(f"{mantissa}e{exponent or 0}"))
