import asyncio
import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.math_pairs import golden_pairs, hard_pairs, latex_pairs
from gym_core.errors import MissingDependencyError, WorkerLostError
from gym_core.processes import Workers
from gym_core.verifiers import math_match
from gym_core.verifiers.math import match as math_module
from gym_core.verifiers.math.algebra import algebra_match

math_verify = pytest.importorskip("math_verify")


def box(text: str) -> str:
    return f"\\boxed{{{text}}}"


@pytest.mark.parametrize(
    ("completion", "answer", "reward"),
    [
        # which answer counts
        (r"\boxed{41} was wrong. Now it is \boxed{42}", "42", 1.0),
        (r"\boxed{41} and in the end \boxed{42}", "42", 0.0),
        (r"\boxed{42}, which is more than the 40 of \boxed{x}... no: it is \boxed{41}", "42", 0.0),
        (r"\boxed{42}. Then 7 steps follow.", "42", 1.0),
        (r"\boxed{\boxed{42}}", "42", 1.0),
        (r"\boxed{42} is cut off by \boxed{4", "42", 1.0),
        (r"$$\boxed{\dfrac{1}{2}}$$", r"\frac{1}{2}", 1.0),
        (r"\boxed{41}, \boxed{42}", "42", 0.0),
        (r"\boxed{41}, \boxed{42}", "41, 42", 1.0),
        ("The answer is 42.", "42", 1.0),
        ("So we get $x = 42$.", "42", 1.0),
        ("#### 42", "42", 1.0),
        ("42", "42", 1.0),
        (r"\boxed{}", "42", 0.0),
        ("", "42", 0.0),
        ("no number", "42", 0.0),
        (r"\boxed{1, 2, 41, 42, 43}", "42", 0.0),
        # what is equal
        (box("2,1"), "1,2", 1.0),
        (box("[1,2]"), "(1,2]", 0.0),
        (box(r"10\text{ cm}"), "10", 1.0),
        (box("1,234"), "1234", 1.0),
        (box("0.333333"), r"\frac{1}{3}", 1.0),
        (box("0.3333"), r"\frac{1}{3}", 0.0),
        (box(r"(x+1)^2"), "x^2+2x+1", 1.0),
        (box(r"\sqrt{12}"), r"2\sqrt{3}", 1.0),
        (box(r"5/2"), r"2\frac{1}{2}", 1.0),
        (box("x=3"), "3", 1.0),
        # how an author may write it
        (box("42"), 42, 1.0),
        (box("42"), 42.0, 1.0),
        (box("0.00001"), 1e-5, 1.0),
        (box("42"), "$42$", 1.0),
        (box("42"), r"It is \boxed{42}.", 1.0),
    ],
)
async def test_math_match_compares_the_last_answer_by_value(completion, answer, reward):
    assert await math_match(completion, answer) == reward


async def test_an_answer_that_is_not_plain_is_judged_in_a_worker():
    assert await math_match(box(r"[2,\infty)"), r"x \geq 2") == 1.0
    assert await math_match(r"First $x$, then \[ \sin 2x \] and that is all", r"2\sin x \cos x") == 1.0


@pytest.mark.parametrize(("found", "gold"), [("10^{10^{10}}", "5"), ("5", "10^{10^{10}}"), ("9^{9^{9^{9}}}", "x+1")])
async def test_a_power_tower_is_refused_at_once(found, gold):
    started_s = time.monotonic()
    assert await math_match(box(found), gold) == 0.0
    assert time.monotonic() - started_s < 1


async def test_a_tower_equals_itself():
    assert await math_match(box("10^{10^{10}}"), "10^{10^{10}}") == 1.0


@pytest.mark.slow
async def test_an_answer_that_hangs_the_worker_scores_0_and_is_not_tried_again(monkeypatch):
    monkeypatch.setattr(math_module, "_CPU_S", 2.0)
    assert await math_match(box(r"\sin(10^{10^{10}})"), "0.5") == 0.0
    started_s = time.monotonic()
    assert await math_match(box(r"\sin(10^{10^{10}})"), "0.5") == 0.0
    assert time.monotonic() - started_s < 0.5


async def test_a_lost_worker_gives_no_verdict(monkeypatch):
    workers = Workers(1)
    workers.close()
    monkeypatch.setattr(math_module, "shared_workers", lambda: workers)
    with pytest.raises(WorkerLostError):
        await math_match(box(r"\sin 3x"), r"\cos 2x")


async def test_a_verdict_is_remembered(monkeypatch):
    assert await math_match(box(r"\cos(0)"), r"\tan 1") == 0.0
    monkeypatch.setattr(math_module, "shared_workers", None)
    assert await math_match(r"Again, \boxed{ \cos(0) }", r"\tan 1") == 0.0


async def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(math_module, "_has_math_verify", lambda: False)
    with pytest.raises(MissingDependencyError, match=r"this needs the extra 'math': run `pip install '\.\[math\]'`"):
        await math_match("42", "42")


def test_math_match_runs_in_any_thread():
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(asyncio.run, math_match(box(r"\cos 0"), r"\cos(0)")).result() == 1.0


@pytest.mark.parametrize(
    ("answer", "error", "sentence"),
    [
        ("", ValueError, "a math_match answer must be an expression, not ''"),
        (r"\boxed{}", ValueError, r"a math_match answer must be an expression, not '\\boxed{}'"),
        (float("nan"), ValueError, "a math_match answer must be an expression, not 'NaN'"),
        (True, TypeError, "a math_match answer must be a string or a number, not True"),
        (None, TypeError, "a math_match answer must be a string or a number, not None"),
    ],
)
async def test_a_mistake_of_the_author_is_one_sentence(answer, error, sentence):
    with pytest.raises(error) as raised:
        await math_match("42", answer)
    assert str(raised.value) == sentence


@pytest.mark.parametrize("text", [r"\boxed{", "{", "}", r"\boxed{}", "$", "answer ", "1 ", "a 1", "\\", "[", " "])
async def test_long_completions_take_linear_time(text):
    started_s = time.monotonic()
    assert await math_match(text * 30_000 + "\\boxed{41}", "42") == 0.0
    assert time.monotonic() - started_s < 2


@pytest.mark.parametrize(
    ("gold", "found", "match"),
    [
        ("42", "43", False),
        ("42", "42.0", True),
        ("1,234", "1234", True),
        ("x^2+2x+1", "(x+1)^2", True),
        ("x^{10}", "x^10", True),
        (r"\frac{\pi}{4}", r"\pi/4", True),
        (r"\frac{3}{4}", "-0.75", False),
        (r"\sqrt[3]{27}", "3", True),
        ("3+4i", "4i+3", True),
        (r"\{1,2\}", "2, 1", True),
        ("(1,2)", "[1,2]", False),
        # left to math-verify
        ("3t", "3", None),
        ("2i", r"\frac{2i^2}{i}", None),
        ("x", "x+0", None),
        ("f(x)", "f(y)", None),
        ("1/2x", "x/2", None),
        ("9\\%", "9", None),
        ("42", "42.0000001", None),
        ("10^{10^{10}}", "10^{10^{10}}+1", None),
        ("0", "10^{-20}", None),
        ("٤", "4", None),
        ("1,234", r"\{1,234\}", None),
        ("1/0", "1", None),
    ],
)
def test_algebra_match_gives_no_verdict_when_uncertain(gold, found, match):
    assert algebra_match(gold, found) is match
    if match is not None:
        assert algebra_match(found, gold) is match


@settings(deadline=None)
@given(
    st.text("0123456789xyi.,+-*/^(){}[]\\ $")
    | st.lists(st.sampled_from([r"\frac{", r"\sqrt{", "^{", "99", "}", "x"])).map("".join)
)
def test_algebra_match_survives_any_text(text):
    assert algebra_match(text, "7") in (True, False, None)
    assert algebra_match(text, text) in (True, None)


@settings(deadline=None)
@given(st.fractions(), st.fractions())
def test_fractions_are_equal_by_value(left, right):
    text = (
        f"\\frac{{{left.numerator * 3}}}{{{left.denominator * 3}}}"
        if left >= 0
        else f"-\\frac{{{-left.numerator}}}{{{left.denominator}}}"
    )
    assert algebra_match(str(left), text) is True
    assert algebra_match(str(right), text) in ((True,) if left == right else (False, None))


def reference(completion: str, gold: str) -> float:
    return float(math_verify.verify(math_verify.parse(box(gold)), math_verify.parse(completion)))


async def disagreements(pairs) -> list[tuple[str, str]]:
    return [
        (pair.gold, pair.completion)
        for pair in pairs
        if await math_match(pair.completion, pair.gold) != reference(pair.completion, pair.gold)
    ]


@pytest.mark.filterwarnings("ignore")
async def test_math_match_agrees_with_math_verify_on_a_sample():
    assert await disagreements([*hard_pairs()[::20], *itertools.islice(latex_pairs(seed=3), 40)]) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
async def test_math_match_agrees_with_math_verify_on_the_golden_set():
    pytest.importorskip("reasoning_gym")
    pairs = golden_pairs(3000)
    assert len(pairs) == 3000
    assert await disagreements(pairs) == []
