"""What an answer has to be before a scorer of reasoning-gym may evaluate it."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gym_core import MissingDependencyError

try:
    from gym_adapters.reasoning_gym.grammar import EVALUATED
except MissingDependencyError:
    pytest.skip("needs reasoning-gym", allow_module_level=True)

ENTRY: dict[str, Any] = {"answer": "x**2 + C", "metadata": {"variable": "x"}}
KINDS = {"binary_matrix": "list", "countdown": "expression", "simple_integration": "antiderivative"}

RUNS_CODE = [
    "__import__('os').system('true')",
    "exec('import os')",
    "eval('1')",
    "compile('1', '', 'eval')",
    "open('/etc/passwd')",
    "print(1)",
    "breakpoint()",
    "getattr(1, 'real')",
    "setattr(print, 'x', 1)",
    "vars()",
    "globals()['__builtins__']",
    "().__class__.__bases__[0].__subclasses__()",
    "''.__class__.__mro__[1].__subclasses__()",
    "[].append(1)",
    "(1).real",
    "1 .__class__",
    "1..__class__",
    "1.5.__class__",
    "'{0.__class__}'.format(1)",
    "'a'.join(['b'])",
    "f'{exec(1)}'",
    "f'{1}'",
    "'a' f'{1}'",
    "(lambda: 1)()",
    "lambda: exec('1')",
    "lambda x: x.__class__",
    "(y := 1)",
    "[y := 1, y]",
    "[i for i in (1, 2)]",
    "[[] for _ in range(10**9)]",
    "{i: i for i in (1, 2)}",
    "(i for i in (1, 2))",
    "[1, 2][0]",
    "[*(1, 2)]",
    "{**{}}",
    "max([1], key=print)",
    "print(*[1])",
    "print(end=1)",
    "1 if exec('1') else 2",
    "1 and exec('1')",
    "1 < exec('1')",
    "not exec('1')",
    "-exec('1')",
    "[exec('1')]",
    "(exec('1'),)",
    "{exec('1')}",
    "exec('1') # 3 + 4",
    "\texec('1')",
    "1 +\\\nexec('1')",
    "(1,\nexec('1'))",
    "ｅｘｅｃ('1')",
    "𝐞𝐱𝐞𝐜('1')",
    "ﬁlter(print, [1])",
    "(1).ｒｅａｌ",
    "x.__class__",
    "x.func",
    "x(1).__class__",
    "S('exec(1)')",
    "sympify('exec(1)')",
    "parse_expr('exec(1)')",
    "sqrt('exec(1)')",
    "sin(('exec(1)'))",
    "sqrt('ex' + 'ec(1)')",
    "Integer('1')",
    "Rational('1', 1)",
    "Symbol('x').__class__",
    "Symbol(exec('1'))",
    "Symbol('x', cls=print)",
    "Function('f').__class__",
    "Function(exec('1'))",
    "Function('f')(exec('1'))",
    "lambdify(x, x)",
    "Lambda(x, exec('1'))",
    "preview(x)",
    "plot(x)",
    "solve(x)",
    "integrate(x, x)",
    "Integral(2*x, x)",
    "diff(x**3, x)",
    "N('exec(1)')",
    "\"exec('1')\".upper()",
    "`exec('1')`",
    "await x",
    "...",
    "b'1'",
]
HANGS = [
    "9**9**9**9",
    "9**9**9",
    "(9**9)**(9**9)",
    "2**2**2**2**2**2",
    "2**(10**7)",
    "pow(9, 9**9)",
    "Pow(2, 10**9)",
    "(2*x)**(10**9)",
    "(10**9)!",
    "9!!**9!",
    "((9!)!)!",
    "factorial(10**9)",
    "factorial2(10**8)",
    "1 << 10**9",
    "1e999999999",
    "1e-999999999",
    "1.5e999999999j",
    "0.1e99999999999999999999999",
    "floor(exp(10**9))",
    "exp(exp(exp(9)))",
    "Rational(1, 10**(10**9))",
    "round(cosh(10**9))",
    "(9**99999)*" * 900 + "1",
]
UNPARSABLE = [
    "(" * 100_000 + "1" + ")" * 100_000,
    "(" * 9_000 + "1" + ")" * 9_000,
    "[" * 9_000 + "]" * 9_000,
    "-" * 19_000 + "1",
    "not " * 4_000 + "1",
    "1 + " * 4_000 + "1",
    "1**" * 6_000 + "1",
    "x(" * 6_000 + ")" * 6_000,
    "1" * 1_000_000,
    "x" * 1_000_000,
    "'" * 19_999,
    "1\0",
    "\0",
    "1 + \ud800",
    "\ufeff1 +",
    "1 + ²",
    "1 ＋ 2",
    "1\n+ 2\n  3",
    "if 1: 2",
    "import os",
    "x = exec('1')",
    "1; exec('1')",
    "!",
    "0.1[",
    "lambda",
    "1_ + 1",
    "0x",
]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("answer", RUNS_CODE)
def test_code_is_not_evaluated(name: str, answer: str) -> None:
    assert EVALUATED[name](answer, ENTRY) in ("refused", "unreadable")


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("answer", HANGS, ids=lambda answer: answer[:40])
def test_numbers_that_hang_are_not_evaluated(name: str, answer: str) -> None:
    verdict = "refused" if name == "binary_matrix" else "huge"
    assert EVALUATED[name](answer, ENTRY) == verdict or EVALUATED[name](f"[{answer}]", ENTRY) == "readable"


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("answer", UNPARSABLE, ids=lambda answer: answer[:9].encode("unicode_escape").decode())
def test_text_that_python_cannot_parse_is_refused_quickly(name: str, answer: str) -> None:
    started_s = time.process_time()
    assert EVALUATED[name](answer, ENTRY) in ("refused", "unreadable")
    assert time.process_time() - started_s < 1


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("binary_matrix", "0 1 2\n1 0 1\n0 1 0"),
        ("binary_matrix", "[[0, 1, 2], [1, 0, 1]]"),
        ("binary_matrix", "[0, 1, 2], [1, 0, 1]"),
        ("binary_matrix", "((0, 1), (-1, +0.5))  # the distances"),
        ("binary_matrix", str([[1] * 100] * 100)),
        ("n_queens", "_ Q _ _\n_ _ _ Q\nQ _ _ _\n_ _ Q _"),
        ("n_queens", "[['_', 'Q'], (\"Q\", '_')]"),
        ("n_queens", "['_Q', 'Q_']"),
        ("spiral_matrix", "1 2 3"),
        ("spiral_matrix", "1, 2, 3"),
        ("string_insertion", "ABCDAE"),
        ("string_insertion", "['A', 'B', 'C']"),
        ("string_insertion", "'ABCDAE'"),
        ("countdown", "(45 + 10)*3 - 7/2 + 2**3"),
        ("countdown", "45+10 // 3 % 2 - -1"),
        ("countdown", "4! + sqrt(16) - 0.5 - .5 - 1e3 - 0.[3]"),
        ("countdown", "45 + 10 == 55"),
        ("countdown", "no"),
        ("countdown", "not possible"),
        ("countdown", "'55'"),
        ("countdown", "exit()"),
        ("countdown", "𝘥𝘪𝘳(1)"),
        ("puzzle24", "8 * 3 * (2 - 1)"),
        ("polynomial_multiplication", "-24*x**4*y + 12*X**3 - x + 1"),
        ("polynomial_multiplication", " + ".join(f"{i * 10**6}*x**{i}*y**{i}*z" for i in range(1, 400))),
        ("polynomial_multiplication", "(x + 1)*(x - 3)**2"),
        ("simple_integration", "-5*x**9 - 2*x**6/3 + 4*x**3.5 + C"),
        ("simple_integration", "-5*x**9/1 + K - x**0.3333333333"),
        ("simple_integration", "'x**2 + C'"),
        ("simple_integration", '"x^2 + C"'),
        (
            "intermediate_integration",
            "-exp(x)*sin(2*x + 3)**4/2 + E**(10*x**3 + 5)*log(Abs(x)) - Rational(1, 2)*atan(x) + C",
        ),
        ("intermediate_integration", "2*(-10*x - 10)**(3/2)/3 + sqrt(1 - 9*x**2)*asin(3*x)*ln(x)/pi + pow(x, 2)*I"),
        ("intermediate_integration", "f(x) + e**x"),
    ],
    ids=lambda text: text[:40],
)
def test_honest_answers_are_evaluated(name: str, answer: str) -> None:
    assert EVALUATED[name](answer, ENTRY) == "readable"


@pytest.mark.parametrize(
    "answer",
    [
        "I do not know.",
        "3 + 4 = 7",
        "2(3 + 4)",
        "(1 + 2)(3)",
        "3 × 4",
        "$24$",
        "N/A",
        "[3 + 4]",
        "{24}",
        "3, 4",
        "...",
        "",
    ],
)
def test_an_invalid_expression_is_unreadable(answer: str) -> None:
    assert EVALUATED["countdown"](answer, ENTRY) == "unreadable"


def test_the_integral_of_the_question_is_no_answer_unless_the_right_one_has_it() -> None:
    unsolved = {**ENTRY, "answer": "3*Integral(x**3*cos(3*x), x) + C"}
    for name in ("simple_integration", "intermediate_integration"):
        assert EVALUATED[name](unsolved["answer"], ENTRY) == "refused"
        assert EVALUATED[name](unsolved["answer"], unsolved) == "readable"


def test_a_quoted_antiderivative_is_parsed_like_a_bare_one() -> None:
    quoted = EVALUATED["simple_integration"]
    assert quoted("'__import__(\"os\")'", ENTRY) == "refused"
    assert quoted("'x^2' '**9**9**9'", ENTRY) == "huge"
    assert quoted("\"'x'\"", ENTRY) == "unreadable"


CHARACTERS = st.sampled_from("xC12'\"()[]{},:;=!*/+-.@~|&^%<>\\# \n\t\0é²１ｅ_$`?")
WORDS = st.sampled_from(
    ["2.5", "0x1f", "1e9", "**", "0.[", "f'", "b'", "lambda", "if", "else", "for", "in", "is", "not"]
)
NAMES = st.sampled_from(["await", "yield", "exec", "sqrt", "Symbol", "Function", "Integral", "Float", "__class__", "x"])
PIECES = CHARACTERS | WORDS | NAMES


@given(st.lists(PIECES, max_size=30).map(" ".join) | st.lists(PIECES, max_size=30).map("".join) | st.text())
@settings(deadline=None, max_examples=300)
def test_every_text_has_a_verdict(answer: str) -> None:
    assert {judge(answer, ENTRY) for judge in EVALUATED.values()} <= {"readable", "unreadable", "refused", "huge"}
