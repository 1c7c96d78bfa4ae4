"""Values of plain LaTeX: arithmetic, fractions, powers, roots, logarithms, polynomials, and the constants pi and e."""

import math
import re
from fractions import Fraction

_MAX_CHARACTERS = 200
_MAX_BITS = 4096
"""Largest power that is calculated, in bits; a larger one counts as infinite."""
_MAX_ARGUMENT = 4096
"""Largest integer up to which the floats of different roots and logarithms of integers differ."""

_PRIMES = (4099, 4111, 4127, 4129, 4133, 4139, 4153, 4157, 4159, 4177, 4201, 4211, 4217, 4219, 4229)
# Fractions of primes, for which different polynomials with common coefficients have different values.
_POINTS = {letter: Fraction(10_007, prime) for letter, prime in zip("abiknpqruvwxyzC", _PRIMES, strict=True)}
VARIABLES = _POINTS | {letter.upper(): value for letter, value in _POINTS.items() if letter != "i"}
"""Values of variables, whatever their case: letters other than `e` and units such as `m` and `c`.

`i` is among them, so two expressions with `i` that differ in value may still be equal, unless each is a sum with one
`i`.
"""

# Irrational numbers are fractions as well: close enough, and equal only where the expressions in them are.
_PI = Fraction(31415926535897932384626433832795, 10**31)
_E = Fraction(27182818284590452353602874713527, 10**31)

_TOKEN = re.compile(
    rf"\s*(?:(?P<number>[0-9]+(?:\.[0-9]+)?)(?![0-9.])|(?P<letter>[{''.join(VARIABLES)}])"
    r"|(?P<symbol>[-+*/^(){}\[\]e]|\\(?:frac|sqrt|ln|pi|cdot|times)(?![A-Za-z])))\s*"
)
# In 3ab and x + b y, for example, math-verify takes `ab` and `b y` for units.
_TRAILING_WORD = re.compile(r"(?:[0-9}]|\s)[a-z](?:[a-z]+| .)$")
_TIMES = ("*", r"\cdot", r"\times")
_SYMBOLS = ("letter", "e", r"\sqrt", r"\ln", r"\pi")
_JOINS = {
    "number": (*_SYMBOLS, "("),  # not a fraction: 2\frac{1}{2} is a mixed number
    "letter": (*_SYMBOLS, r"\frac"),  # not a parenthesis: f(x) is a function
    ")": (*_SYMBOLS, "(", r"\frac"),
    "}": (*_SYMBOLS, "(", r"\frac"),
    "constant": _SYMBOLS,
}
"""For each kind of token, the tokens that multiply it when they follow it."""

Value = Fraction | float
"""A fraction is exact, a float is not; an infinite float stands for a value too large to calculate."""


def latex_value(text: str) -> Value:
    """The value of an expression.

    Raises:
        ValueError: The expression is not plain.
        ArithmeticError: The expression has no finite value.
    """
    if len(text) > _MAX_CHARACTERS or _TRAILING_WORD.search(text):
        raise ValueError("it is long, or may end in a unit")
    value = _Parser(text).value()
    if math.isnan(value):
        raise ArithmeticError("the difference or ratio of infinities")
    return value


class _Parser:
    """A recursive-descent parser that calculates as it goes."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        end = 0
        while end < len(text):
            match = _TOKEN.match(text, end)
            if match is None:
                raise ValueError(text[end:])
            kind = str(match.lastgroup)
            token = match[kind]
            self._tokens.append((token if kind == "symbol" else kind, token))
            end = match.end()
        self._tokens.append(("end", ""))
        self._at = 0

    def value(self) -> Value:
        value = self._sum()
        self._take("end")
        return value

    @property
    def _next(self) -> str:
        return self._tokens[self._at][0]

    def _take(self, *kinds: str) -> str:
        kind, token = self._tokens[self._at]
        if kind not in kinds:
            raise ValueError(token)
        self._at += 1
        return token

    def _sum(self) -> Value:
        sign = self._take("+", "-") if self._next in ("+", "-") else "+"
        value = self._product() if sign == "+" else -self._product()
        while self._next in ("+", "-"):
            value = value + self._product() if self._take("+", "-") == "+" else value - self._product()
        return value

    def _product(self) -> Value:
        value, last = self._power()
        while True:
            if self._next in _TIMES:
                self._take(*_TIMES)
                factor, last = self._power()
                value = value * factor
            elif self._next == "/":
                self._take("/")
                factor, _ = self._power()
                value, last = value / factor, "/"  # a factor without a sign after it would be ambiguous: 1/2x
            elif self._next in _JOINS.get(last, ()):
                factor, last = self._power()
                value = value * factor
            else:
                return value

    def _power(self) -> tuple[Value, str]:
        """The value of a factor with its exponent, and the kind of token that ends it."""
        base, last = self._atom()
        if self._next != "^":
            return base, last
        self._take("^")
        # LaTeX reads x^10 as x^1 0, but nobody means that.
        exponent = Fraction(self._take("number")) if self._next == "number" else self._braced()
        return _power(base, exponent), "}"

    def _atom(self) -> tuple[Value, str]:
        kind = self._next
        token = self._take("number", "letter", "e", "(", r"\frac", r"\sqrt", r"\ln", r"\pi")
        if kind == "number":
            return Fraction(token), kind
        if kind == "letter":
            return VARIABLES[token], kind
        if kind in ("e", r"\pi"):
            return _E if kind == "e" else _PI, "constant"
        if kind == "(":
            value = self._sum()
            self._take(")")
            return value, ")"
        if kind == r"\frac":
            return self._braced() / self._braced(), "}"
        return (self._logarithm(), "ln") if kind == r"\ln" else (self._root(), "}")

    def _root(self) -> Value:
        degree = 2
        if self._next == "[":
            self._take("[")
            degree = int(self._take("number"))
            self._take("]")
        return _root(self._braced(), degree)

    def _logarithm(self) -> Value:
        argument = int(self._take("number")) if self._next == "number" else self._braced()
        if self._next not in ("+", "-", "}", ")", "end"):
            raise ValueError("where the argument ends is ambiguous")
        if not 2 <= argument <= _MAX_ARGUMENT or argument != int(argument):
            raise ArithmeticError("not the logarithm of a small integer")
        return Fraction(math.log(argument))

    def _braced(self) -> Value:
        """The value in braces; a single digit or letter needs none."""
        if self._next in ("number", "letter"):
            token = self._take("number", "letter")
            if len(token) > 1:
                raise ValueError(token)
            return VARIABLES[token] if token in VARIABLES else Fraction(token)
        self._take("{")
        value = self._sum()
        self._take("}")
        return value


def _power(base: Value, exponent: Value) -> Value:
    if math.isinf(base) or math.isinf(exponent):
        if base > 1 and exponent >= 1:
            return math.inf
        raise ArithmeticError("an infinite power")
    if isinstance(exponent, float) or exponent.denominator != 1:
        if base <= 0:
            raise ArithmeticError("a root that may not be real")
        return float(float(base) ** float(exponent))
    if isinstance(base, float):
        return float(base ** int(exponent))
    bits = max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(exponent)
    if bits <= _MAX_BITS or abs(base) == 1:
        return Fraction(base ** int(exponent))
    if base >= 2 and exponent > 0:
        return math.inf
    raise ArithmeticError("a power that is too small")


def _root(value: Value, degree: int) -> Value:
    if value < 0 or degree < 2 or math.isinf(value):
        raise ArithmeticError("a root that may not be real")
    if isinstance(value, float) or max(value.numerator, value.denominator) > _MAX_ARGUMENT:
        return math.pow(value, 1 / degree)
    if degree == 2:  # sqrt(p/q) = sqrt(pq)/q, and sqrt(s^2 r) = s sqrt(r)
        radicand = value.numerator * value.denominator
        square = next(i for i in range(math.isqrt(radicand) or 1, 0, -1) if radicand % (i * i) == 0)
        return Fraction(square, value.denominator) * Fraction(math.sqrt(radicand // square**2))
    root = Fraction(float(value) ** (1 / degree))
    nearest = Fraction(round(root))
    return nearest if nearest**degree == value else root
