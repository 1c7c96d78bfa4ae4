"""Grammar: the form an answer must have before a scorer of reasoning-gym may evaluate it.

Nine scorers hand an answer to Python's `eval`, or to sympy's `parse_expr`, which rewrites its tokens and then calls
`eval`. An answer is parsed here first, with nothing evaluated, and each node of its syntax tree must be on a list.
The parsed text is the one that `eval` would get: for `parse_expr`, the text that sympy has rewritten.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Callable, Collection, Iterable
from tokenize import TokenError
from typing import Any, Literal

from sympy import Symbol, parse_expr
from sympy.parsing.sympy_parser import convert_xor, standard_transformations, stringify_expr

Verdict = Literal["readable", "unreadable", "refused", "huge"]
"""Unreadable: the scorer can't read it. Refused: it is code. Huge: evaluating it would hang the scorer."""

LITERAL_CHARACTERS = 100_000
EXPRESSION_CHARACTERS = 20_000
BITS = 1e6  # of all the numbers in an expression; the longest right answers seen have ten thousand

CONSTANTS = frozenset({"E", "I", "nan", "oo", "pi", "zoo"})
FUNCTIONS = (
    {
        f"{inverse}{name}{h}"
        for inverse in ("", "a")
        for name in ("cos", "cot", "csc", "sec", "sin", "tan")
        for h in ("", "h")
    }
    | {"Abs", "Max", "Min", "Mod", "abs", "atan2", "ceiling", "floor", "max", "min", "round", "sign"}
    | {"Pow", "cbrt", "exp", "factorial", "factorial2", "ln", "log", "pow", "root", "sqrt"}
    | {"Ci", "Ei", "Integer", "Rational", "Si", "erf", "erfi"}
)
_GROWING = frozenset({"Ei", "cosh", "erfi", "exp", "sinh"})  # as a power of E

_PLAIN = re.compile(r"[0-9A-EQ_\s]*")
_LITERALS = (ast.List, ast.Tuple, ast.UnaryOp, ast.UAdd, ast.USub, ast.Load)
_EXPRESSIONS = (
    *(ast.BinOp, ast.operator, ast.UnaryOp, ast.unaryop, ast.BoolOp, ast.boolop, ast.Compare, ast.cmpop),
    *(ast.IfExp, ast.Load),
)
_UNPARSABLE = (SyntaxError, TokenError, ValueError, TypeError, IndexError, RecursionError, MemoryError)


def literal(answer: str, entry: dict[str, Any]) -> Verdict:
    """Judge an answer that should be a grid or a word as plain text, or else Python lists of numbers and strings.

    Args:
        answer: Text between the tags.
        entry: Not used.
    """
    if len(answer) > LITERAL_CHARACTERS:
        return "refused"
    if _PLAIN.fullmatch(answer):  # evaluated, it is a number, an unknown name, or a syntax error
        return "readable"
    try:
        nodes = ast.walk(_parse(answer).body)
    except _UNPARSABLE:
        return "refused"
    known = all(
        isinstance(node, _LITERALS) or (isinstance(node, ast.Constant) and isinstance(node.value, int | float | str))
        for node in nodes
    )
    return "readable" if known else "refused"


def arithmetic(answer: str, entry: dict[str, Any]) -> Verdict:
    """Judge an answer that should be an expression of numbers, operators, functions and symbols.

    Args:
        answer: Text between the tags.
        entry: Not used.
    """
    if _quoted(answer) is not None:  # the scorers convert it to a number without evaluating it
        return "readable"
    return _expression(answer)


def antiderivative(answer: str, entry: dict[str, Any]) -> Verdict:
    """Judge an answer that should be an expression of the entry's variable and the constant C.

    `Integral(...)` is allowed only if the right answer has it: the integral in the question is not an antiderivative.

    Args:
        answer: Text between the tags.
        entry: Entry of an integration dataset.
    """
    functions = FUNCTIONS | {"Integral"} if "Integral(" in entry["answer"] else FUNCTIONS
    quoted = _quoted(answer)
    if quoted is not None:  # `sympy.diff` evaluates the text in the quotes
        rewrite = (*standard_transformations, convert_xor)
        return _expression(quoted.replace("\n", ""), functions=functions, rewrite=rewrite)
    return _expression(answer, (entry["metadata"]["variable"], "C"), functions=functions)


EVALUATED: dict[str, Callable[[str, dict[str, Any]], Verdict]] = {
    "binary_matrix": literal,
    "countdown": arithmetic,
    "intermediate_integration": antiderivative,
    "n_queens": literal,
    "polynomial_multiplication": arithmetic,
    "puzzle24": arithmetic,
    "simple_integration": antiderivative,
    "spiral_matrix": literal,
    "string_insertion": literal,
}
"""The datasets whose scorers evaluate answers, and the grammar of each."""


def _quoted(answer: str) -> str | None:
    if len(answer) > EXPRESSION_CHARACTERS:
        return None
    try:
        node = _parse(answer).body
    except _UNPARSABLE:
        return None
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _expression(
    answer: str,
    names: Iterable[str] = (),
    *,
    functions: Collection[str] = FUNCTIONS,
    rewrite: tuple[Any, ...] = standard_transformations,
) -> Verdict:
    if len(answer) > EXPRESSION_CHARACTERS:
        return "refused"
    symbols = {name: Symbol(name) for name in names}
    try:
        tree = _parse(stringify_expr(answer, symbols, _NAMESPACE, rewrite))
    except _UNPARSABLE:
        return "unreadable"
    known = CONSTANTS | symbols.keys()
    nodes, verdicts = [], set()
    pending: list[ast.AST] = [tree.body]
    while pending:
        node = pending.pop()
        verdict, children = _judge(node, known, functions)
        nodes.append(node)
        verdicts.add(verdict)
        pending += children
    for verdict in ("refused", "unreadable"):
        if verdict in verdicts:
            return verdict
    sizes: dict[ast.AST, float] = {}
    for node in reversed(nodes):  # children first
        sizes[node] = _size(node, sizes)
    return "readable" if sum(sizes.values()) <= BITS else "huge"


def _judge(node: ast.AST, names: Collection[str], functions: Collection[str]) -> tuple[Verdict, Iterable[ast.AST]]:
    """The verdict on the node itself, and the children that are still to be judged."""
    match node:
        case ast.Call(func=ast.Name(id="Symbol" | "Function" | "Float"), args=[ast.Constant(value=str())], keywords=[]):
            return "readable", ()
        case ast.Call(func=ast.Name(id=name), keywords=[]):
            return ("readable" if name in functions else "refused"), node.args
        case ast.Call(func=ast.Call(func=ast.Name(id="Function")), keywords=[]):  # of a name that sympy does not know
            return "readable", (node.func, *node.args)
        case ast.Call(keywords=[]):  # of a number, as in 2(3 + 4)
            return "unreadable", (node.func, *node.args)
        case ast.Name(id=name):
            return ("readable" if name in names else "unreadable"), ()
        case ast.Constant(value=value):  # strings are none of its values: sympy's functions evaluate them
            return ("readable" if isinstance(value, int | None) else "unreadable"), ()
        case ast.List() | ast.Tuple() | ast.Set() | ast.Dict() | ast.Starred():
            return "unreadable", ast.iter_child_nodes(node)
    return ("readable" if isinstance(node, _EXPRESSIONS) else "refused"), ast.iter_child_nodes(node)


def _size(node: ast.AST, sizes: dict[ast.AST, float]) -> float:
    """An upper bound for the bits of numerator and denominator; a symbol counts as 1."""
    match node:
        case ast.Constant(value=int() as number):
            return float(number.bit_length())
        case ast.Call(func=ast.Name(id="Float"), args=[ast.Constant(value=str() as text)]):
            return _float_size(text)
        case ast.BinOp(op=ast.Add() | ast.Sub(), left=left, right=right):
            less, more = sorted((sizes[left], sizes[right]))
            return more + math.log2(1 + 2.0 ** (less - more))
        case ast.BinOp(op=ast.Pow(), left=base, right=exponent):
            return sizes[base] * _greatest(sizes[exponent])
        case ast.BinOp(op=ast.LShift(), left=number, right=places):
            return sizes[number] + _greatest(sizes[places])
        case ast.Call(func=ast.Name(id="pow" | "Pow"), args=[base, exponent, *_]):
            return sizes[base] * _greatest(sizes[exponent])
        case ast.Call(func=ast.Name(id=name), args=[argument, *_]) if name in _GROWING:
            return math.log2(math.e) * _greatest(sizes[argument])
        case ast.Call(func=ast.Name(id="factorial" | "factorial2"), args=[argument, *_]):
            return sizes[argument] * _greatest(sizes[argument])
    return sum(sizes.get(child, 0.0) for child in ast.iter_child_nodes(node))


def _float_size(text: str) -> float:
    mantissa, _, exponent = text.lower().partition("e")
    try:
        value = abs(float(mantissa))
        return abs(int(exponent or "0")) * math.log2(10) + (abs(math.log2(value)) + 1 if value else 0.0)
    except (ValueError, OverflowError):
        return math.inf


def _greatest(bits: float) -> float:
    return math.exp2(min(bits, 64.0))


def _parse(code: str) -> ast.Expression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as the warning for "x is 4"
        return ast.parse(code.lstrip(" \t"), mode="eval")  # `eval` strips it too


def _namespace() -> dict[str, Any]:
    """The names with which `parse_expr` evaluates, as it passes them to its transformations."""
    seen: list[dict[str, Any]] = []

    def look(tokens: list[tuple[int, str]], _: dict[str, Any], names: dict[str, Any]) -> list[tuple[int, str]]:
        seen.append(names)
        return tokens

    parse_expr("0", transformations=(look,))
    return seen[0]


_NAMESPACE = _namespace()
