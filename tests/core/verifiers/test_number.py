from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gym_core.verifiers import number_match

NO_ANSWER = [0, 1, 2, 3, 4, 5, 10, 42, 2024]


@pytest.mark.parametrize(
    ("completion", "answer", "reward"),
    [
        # signs
        ("3-4", 4, 1.0),
        ("3-4", -4, 0.0),
        ("3 -4", -4, 1.0),
        ("x-4", 4, 1.0),
        ("(3)-4", 4, 1.0),
        ("3–4", 4, 1.0),
        ("- 4 apples", 4, 1.0),
        ("the answer--4", 4, 1.0),
        ("−7", -7, 1.0),
        ("–7", -7, 1.0),
        ("x = -7", -7, 1.0),
        ("**-7**", -7, 1.0),
        ("$-7$", -7, 1.0),
        ("-$7", -7, 1.0),
        (r"-\$7", -7, 1.0),
        ("(-7)", -7, 1.0),
        ("答案是-7。", -7, 1.0),
        ("+7", 7, 1.0),
        # grouping
        ("1,234,567", 1234567, 1.0),
        ("1_000", 1000, 1.0),
        ("1\u202f234\u2009567", 1234567, 1.0),
        ("1\u00a0234", 1234, 1.0),
        ("1{,}234", 1234, 1.0),
        (r"10,\!000", 10000, 1.0),
        (r"10\,000", 10000, 1.0),
        ("1,234.50", "1234.5", 1.0),
        ("1,23", 23, 1.0),
        ("1,23", 123, 0.0),
        ("1,23", "1.23", 0.0),
        ("1234,567,890", 890, 1.0),
        ("1,234,5678", 5678, 1.0),
        ("0,123", 123, 1.0),
        ("1, 2, 3", 3, 1.0),
        ("12 345", 345, 1.0),
        # units and decoration
        ("$1,200", 1200, 1.0),
        (r"\$1,200.00", 1200, 1.0),
        ("36 dollars", 36, 1.0),
        ("12km", 12, 1.0),
        ("12 m^2", 12, 1.0),
        ("12 m²", 12, 1.0),
        (r"90^\circ", 90, 1.0),
        ("45%", 45, 1.0),
        (r"45\%", 45, 1.0),
        ("45%", 0.45, 0.0),
        ("The total is 42.", 42, 1.0),
        (r"\boxed{42}", 42, 1.0),
        (r"\boxed{42\text{ km}}", 42, 1.0),
        ("**42**", 42, 1.0),
        ("_42_", 42, 1.0),
        ("$42$", 42, 1.0),
        ("答案是42。", 42, 1.0),
        # decimals and powers of ten
        ("0.1", 0.1, 1.0),
        ("0.10", Decimal("0.1"), 1.0),
        ("0.3", 0.1 + 0.2, 0.0),
        ("0.30000000000000004", 0.1 + 0.2, 1.0),
        ("0.3333", "1/3", 0.0),
        ("9007199254740993", 9007199254740992.0, 0.0),
        (".5", 0.5, 1.0),
        ("-.5", -0.5, 1.0),
        ("...5", 5, 1.0),
        ("42.0", 42, 1.0),
        ("007", 7, 1.0),
        ("2.5e3", 2500, 1.0),
        ("5E-3 m", "0.005", 1.0),
        ("3eggs", 3, 1.0),
        (r"3.2 \times 10^{5}", 320000, 1.0),
        ("3 × 10⁻²", 0.03, 1.0),
        ("3x10^2", 300, 1.0),
        ("10^3", 1000, 1.0),
        ("-10^3", -1000, 1.0),
        ("110^3", 1000, 0.0),
        # fractions
        ("3/4", 0.75, 1.0),
        ("6 / 8", Fraction(3, 4), 1.0),
        ("3/4", 4, 0.0),
        ("-3/4", -0.75, 1.0),
        (r"\frac{3}{4}", 0.75, 1.0),
        (r"-\dfrac{3}{4}", -0.75, 1.0),
        (r"\frac{-3}{4}", -0.75, 1.0),
        ("1 1/2", 1.5, 1.0),
        ("-1 1/2", -1.5, 1.0),
        (r"1\frac{1}{2}", 1.5, 1.0),
        ("1,000 1/2", 1000.5, 1.0),
        ("2 7/5", 1.4, 1.0),
        ("-2 7/5", 1.4, 1.0),
        ("1.5/2.5", 0.6, 1.0),
        # the last number, and only that
        ("42 or 43", 42, 0.0),
        ("3 + 4 = 7", 7, 1.0),
        ("1 2 3 42 5", 42, 0.0),
        ("12:30", 30, 1.0),
        ("It was 5 on 2024-05-01", 5, 1.0),
        ("I use v2", 2, 0.0),
        ("42 H2O", 42, 1.0),
        ("42 = x_{1}", 42, 1.0),
    ],
)
def test_number_match_compares_the_last_number_by_value(completion, answer, reward):
    assert number_match(completion, answer) == reward


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "no number",
        "2024-05-01",
        "05/01/2024",
        "1.2.3",
        "192.168.0.1",
        "12:30:00",
        "v2",
        "H2O",
        "v2.5",
        "x_1",
        "m^2",
        "2^10",
        "2¹⁰",
        "3/0",
        "1/2/3",
        "1e999999999",
        "1e-999999999",
        "10^999999999",
        "1" * 100_000,
        "0." + "1" * 100_000,
        "1e" + "0" * 100_000,
        "½",
        "²",
        "٤٢",
        "inf",
        "nan",
        "\x00",
        "\ud800",
    ],
)
def test_text_without_a_value_equals_no_answer(completion):
    assert [number_match(completion, answer) for answer in NO_ANSWER] == [0.0] * len(NO_ANSWER)


@pytest.mark.parametrize(
    ("completion", "after", "answer", "reward"),
    [
        ("12 + 30 = 42\n#### 42", "####", 42, 1.0),
        ("#### 41\n#### 42", "####", 42, 1.0),
        ("#### 42 or 43", "####", 42, 1.0),
        ("#### 42 or 43", "####", 43, 0.0),
        ("####-42", "####", -42, 1.0),
        ("#### $1,200.", "####", 1200, 1.0),
        ("42", "####", 42, 0.0),
        ("42 ####", "####", 42, 0.0),
        ("#### none", "####", 42, 0.0),
        ("#### 42\n####", "####", 42, 0.0),
        ("#### 3/0 42", "####", 42, 0.0),
        ("", "####", 0, 0.0),
        (r"\boxed{41} or \boxed{42} in 3 steps", r"\boxed{", 42, 1.0),
        (r"\boxed{\frac{3}{4}}", r"\boxed{", 0.75, 1.0),
        ("answer42", "answer", 42, 1.0),
    ],
)
def test_a_marker_comes_before_the_number(completion, after, answer, reward):
    assert number_match(completion, answer, after=after) == reward


@pytest.mark.parametrize(
    ("completion", "answer", "tolerance", "reward"),
    [
        ("3.14", 3.14159, 0.01, 1.0),
        ("3.15159", 3.14159, 0.01, 1.0),
        ("3.151590001", 3.14159, 0.01, 0.0),
        ("0.3", 0.2, 0.1, 1.0),
        ("-1", 1, 1, 0.0),
        ("", 0, 1, 0.0),
    ],
)
def test_the_tolerance_is_an_exact_absolute_difference(completion, answer, tolerance, reward):
    assert number_match(completion, answer, tolerance=tolerance) == reward


@pytest.mark.parametrize("answer", ["42", "42.0", "$42", "42%", "4.2e1", "84/2", r"\frac{84}{2}", "\\boxed{42}", 42.0])
def test_an_answer_may_be_spelled_as_in_a_completion(answer):
    assert number_match("42", answer) == 1.0
    assert number_match("43", answer) == 0.0


@pytest.mark.parametrize(
    "text",
    ["1", "1 ", "1,", "111,", "1.", "1/", "1-", "1 1/", " ", ",", "(", "-", "a", "a1", "^", "_", r"\frac{", "1e", "⁵"],
)
@pytest.mark.parametrize("end", ["", "1", "x", "/", "^"])
def test_long_completions_take_linear_time(text, end):
    assert number_match(text * 30_000 + end, 42) == 0.0


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"answer": "abc"}, ValueError, "a number_match answer must be a number, not 'abc'"),
        ({"answer": ""}, ValueError, "a number_match answer must be a number, not ''"),
        ({"answer": "3 or 4"}, ValueError, "a number_match answer must be a number, not '3 or 4'"),
        ({"answer": "2^10"}, ValueError, "a number_match answer must be a number, not '2^10'"),
        ({"answer": "3/0"}, ValueError, "a number_match answer must be a number, not '3/0'"),
        ({"answer": float("nan")}, ValueError, "a number_match answer must be a number, not nan"),
        ({"answer": float("-inf")}, ValueError, "a number_match answer must be a number, not -inf"),
        ({"answer": Decimal("NaN")}, ValueError, "a number_match answer must be a number, not Decimal('NaN')"),
        (
            {"answer": Decimal("Infinity")},
            ValueError,
            "a number_match answer must be a number, not Decimal('Infinity')",
        ),
        ({"answer": True}, TypeError, "a number_match answer must be a number, not True"),
        ({"answer": None}, TypeError, "a number_match answer must be a number, not None"),
        ({"answer": 1, "tolerance": -1}, ValueError, "a tolerance must be a number >= 0, not -1"),
        ({"answer": 1, "tolerance": float("nan")}, ValueError, "a tolerance must be a number >= 0, not nan"),
        ({"answer": 1, "after": ""}, ValueError, "after must be None or a marker, not ''"),
    ],
)
def test_a_mistake_of_the_author_is_one_sentence(options, error, sentence):
    with pytest.raises(error) as raised:
        number_match("x", **options)
    assert str(raised.value) == sentence


FINITE_NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.fractions()
FRAGMENTS = st.sampled_from(
    [
        "1",
        "23",
        "456",
        ",",
        ".",
        "/",
        " ",
        "-",
        "^",
        "{",
        "}",
        "e",
        "x",
        "10^",
        "$",
        "%",
        "_",
        "\\frac{",
        "²",
        "\u2009",
        "a",
    ]
)
ANY_TEXT = st.text(st.characters(), max_size=200) | st.lists(FRAGMENTS).map("".join)


@settings(deadline=None)
@given(ANY_TEXT)
def test_number_match_scores_any_text_0_or_1(completion):
    assert number_match(completion, 1) in (0.0, 1.0)
    assert number_match(completion, 1, after=" ", tolerance=0.5) in (0.0, 1.0)


@settings(deadline=None)
@given(ANY_TEXT)
def test_at_most_one_value_scores(completion):
    assert sum(number_match(completion, answer) for answer in range(-30, 30)) <= 1.0


@settings(deadline=None)
@given(FINITE_NUMBERS, FINITE_NUMBERS)
def test_a_number_scores_for_its_own_value_only(number, other):
    exact = Fraction(repr(number)) if isinstance(number, float) else Fraction(number)
    for completion in (str(number), f"It is {number}.", f"\\boxed{{{number}}}"):
        assert number_match(completion, number) == 1.0
        assert number_match(completion, str(number)) == 1.0
        assert number_match(completion, exact + 1) == 0.0
        same = exact == (Fraction(repr(other)) if isinstance(other, float) else Fraction(other))
        assert number_match(completion, other) == float(same)


@settings(deadline=None)
@given(st.integers())
def test_grouping_by_threes_keeps_the_value(number):
    assert number_match(f"{number:,}", number) == 1.0
    assert number_match(f"{number:_}", number) == 1.0
