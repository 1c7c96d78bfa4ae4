import json
import string
from collections.abc import Callable
from enum import Enum
from inspect import Parameter, Signature
from typing import Annotated, Any, Dict, List, Literal, Optional, Tuple, Union  # noqa: UP035

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

from gym_core import EnvironmentSpecError, Tool


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(Enum):
    LOW = 1
    HIGH = "high"
    NONE = None


def no_argument() -> str:
    """Say the time."""


def scalars(count: int, ratio: float, name: str, exact: bool) -> bool:
    """Take one of each.

    Args:
        count: How many.
        ratio: How much.
        name: Who.
        exact: Whether to the point.

    Returns:
        Whether it went well.
    """


def arrays(items: list, numbers: list[int], rows: list[list[str]], typed: List[int], bare: List):  # noqa: UP006
    """Take lists.

    Args:
        items: Anything.
        numbers: Integers.
        rows: A table.
        typed: The old spelling.
        bare: The old spelling, of anything.
    """


def objects(any_values: dict, counts: dict[str, int], series: dict[str, list[float]], bare: Dict):  # noqa: UP006
    """Take objects.

    Args:
        any_values: Anything.
        counts: How often.
        series: Numbers by name.
        bare: The old spelling.
    """


def nested(tables: list[dict[str, list[int]]]) -> dict[str, list[int]]:
    """Take what is nested.

    Args:
        tables: Tables.
    """


def tuples(pair: tuple[int, str], bare: tuple, old: Tuple, points: list[tuple[float, float]]):  # noqa: UP006
    """Take tuples.

    Args:
        pair: Two.
        bare: Some.
        old: Some, in the old spelling.
        points: Many.
    """


def literals(unit: Literal["celsius", "kelvin"], mixed: Literal["a", 1, True, None], one: Literal[7]):
    """Take literals.

    Args:
        unit: The unit.
        mixed: One of many kinds.
        one: Seven.
    """


def enums(color: Color, level: Level = Level.LOW, colors: list[Color] | None = None):
    """Take enums.

    Args:
        color: The color.
        level: The level.
        colors: More colors.
    """


def optionals(a: Optional[int], b: int | None, c: Optional[List[int]] = None, d: list[int] | None = None):  # noqa: UP006, UP045
    """Take what may be missing.

    Args:
        a: First.
        b: Second.
        c: Third.
        d: Fourth.
    """


def unions(a: int | str, b: Union[float, int, None], c: list | tuple, d: list[int] | str, e: Color | int, f: int | Any):  # noqa: UP007
    """Take several types.

    Args:
        a: First.
        b: Second.
        c: Third.
        d: Fourth.
        e: Fifth.
        f: Sixth.
    """


def anything(value: Any, values: list[Any], nothing: None = None):
    """Take anything.

    Args:
        value: Whatever.
        values: All of it.
        nothing: Null.
    """


def defaults(city: str, days: int = 3, unit: str = "celsius", *, verbose: bool = False):
    """Tell the weather.

    Args:
        city: Where.
        days: How far ahead.
        unit: In which unit.
        verbose: Whether to say all.
    """


def choices(drink: str, size: int = 1, plain: str = "x"):
    """Order a drink.

    Args:
        drink: What to drink (choices: ["tea ", "coffee"])
        size: How large (Choices: [1, 2, 3])
        plain: Ends with a bracket (of no meaning)
    """


def long_descriptions(first: str, second: int):
    """Do a thing.

    It takes two paragraphs to say what:
      - with an indented list
      - of two items

    Args:
        first: The first argument, which needs
            a second line, and: a colon,
            url: https://example.org in it.

        second:
            Described on the next line.
    """


def all_sections(x: int) -> list[int]:
    """Look a number up.

    In the book.

    Args:
        x: The number.

    Returns:
        The pages,
            in order.

    Raises:
        KeyError: It is not there.
    """


def any_result() -> Any:
    """Return something."""


def unconvertible_result(x: int) -> Exception:
    """Return what has no JSON form.

    Args:
        x: A number.

    Returns:
        An exception.
    """


def raises_only(x: int):
    """Fail.

    Args:
        x: A number.

    Raises:
        ValueError: Always.
    """


async def waits(seconds: float) -> None:
    """Wait.

    Args:
        seconds: How long.
    """


def one_line_docstring() -> dict[str, int]:
    "Count things, in one line."


def unicode_text(straße: str) -> str:
    """Übersetze «das» — 日本語.

    Args:
        straße: Wo? "Dort", sagt sie.
    """


class Holder:
    def method(self, x: int, self_: str = "") -> str:
        """Do it on an object.

        Args:
            x: A number.
            self_: Not the object.
        """


FUNCTIONS = [
    no_argument,
    scalars,
    arrays,
    objects,
    nested,
    tuples,
    literals,
    enums,
    optionals,
    unions,
    anything,
    defaults,
    choices,
    long_descriptions,
    all_sections,
    any_result,
    unconvertible_result,
    raises_only,
    waits,
    one_line_docstring,
    unicode_text,
    Holder.method,
    Holder().method,
]


@pytest.fixture(scope="module")
def theirs() -> Callable[..., dict[str, Any]]:
    get_json_schema = pytest.importorskip("transformers.utils").get_json_schema
    get_json_schema(no_argument)  # the first call imports torch
    return get_json_schema


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_schema_is_the_text_that_transformers_gives(function, theirs):
    assert json.dumps(Tool.from_function(function).schema) == json.dumps(theirs(function))


WORDS = st.text(string.ascii_letters + string.digits + " .,;:()[]{}'\"-_#/\\", min_size=1, max_size=25).filter(
    str.strip
)
NAMES = st.sampled_from(["a", "city", "x1", "schema", "json", "copy", "type", "kind_of"])
LEAVES = st.sampled_from([int, float, str, bool, list, dict, tuple, Any, Color, Literal["a", "b"], Literal[1, "x"]])
HINTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(lambda hint: list[hint]),
        inner.map(lambda hint: dict[str, hint]),
        inner.map(lambda hint: hint | None),
        st.tuples(inner, inner).map(lambda hints: hints[0] | hints[1]),
        st.tuples(inner, inner).map(lambda hints: tuple[hints]),
    ),
    max_leaves=4,
)


@st.composite
def functions(draw):
    names = draw(st.lists(NAMES, unique=True, max_size=4))
    lines = [draw(WORDS).strip(), *draw(st.lists(WORDS, max_size=2))]
    if names:
        lines += ["", "Args:"]
    for name in names:
        lines += [f"    {name}: {draw(WORDS)}", *(f"        {more}" for more in draw(st.lists(WORDS, max_size=2)))]
    if draw(st.booleans()):
        lines += ["", "Returns:", f"    {draw(WORDS)}"]

    def function(): ...

    hints = {name: draw(HINTS) for name in names}
    function.__doc__ = "\n".join(lines)
    function.__annotations__ = hints | ({"return": draw(HINTS)} if draw(st.booleans()) else {})
    function.__signature__ = Signature(
        [Parameter(name, Parameter.KEYWORD_ONLY, annotation=hints[name]) for name in names]
    )
    return function


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(functions())
def test_any_docstring_with_any_hints_gives_the_text_that_transformers_gives(theirs, function):
    assert json.dumps(Tool.from_function(function).schema) == json.dumps(theirs(function))


def test_constraints_of_annotated_are_not_shown():
    def dial(digit: Annotated[int, Field(ge=0, le=9)]):
        """Dial.

        Args:
            digit: A digit.
        """

    shown = Tool.from_function(dial).schema["function"]["parameters"]["properties"]["digit"]
    assert shown == {"type": "integer", "description": "A digit."}


def test_types_in_the_docstring_are_understood_and_left_out():
    def dial(digit: int):
        """Dial.

        Args:
            digit (int, optional): A digit.
        """

    shown = Tool.from_function(dial).schema["function"]["parameters"]["properties"]["digit"]
    assert shown == {"type": "integer", "description": "A digit."}


def no_hint(x):
    """Do it.

    Args:
        x: A number.
    """


def no_description(x: int):
    """Do it."""


def no_docstring(x: int): ...


def only_sections(x: int):
    """
    Args:
        x: A number.
    """


def star_args(*xs: int):
    """Do it."""


def star_kwargs(**xs: int):
    """Do it."""


def positional_only(x: int, /):
    """Do it."""


def unevaluable(x: "Undefined"):  # noqa: F821
    """Do it.

    Args:
        x: A number.
    """


def missing_attribute(x: "string.Undefined"):
    """Do it.

    Args:
        x: A number.
    """


def unknown_type(x: list[set[int]]):
    """Do it.

    Args:
        x: A number.
    """


def unknown_enum(x: Literal[b"a"]):
    """Do it.

    Args:
        x: A letter.
    """


def open_tuple(x: tuple[int, ...]):
    """Do it.

    Args:
        x: Numbers.
    """


def unquoted_choices(x: str):
    """Do it.

    Args:
        x: A drink (choices: [tea, coffee])
    """


NO_SCHEMA = (
    "has no JSON schema; expected int, float, str, bool, an Enum, a Literal, a list, a dict, a tuple of fixed length "
    "or a union of those, or the schema itself by Tool.from_schema"
)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (no_hint, "argument 'x' of tool 'no_hint' needs a type hint"),
        (no_description, "argument 'x' of tool 'no_description' needs a description in the docstring's Args section"),
        (no_docstring, "tool 'no_docstring' needs a docstring: the policy reads it to know what the tool does"),
        (only_sections, "tool 'only_sections' needs a docstring: the policy reads it to know what the tool does"),
        (star_args, "tool 'star_args' takes '*xs: int', expected named arguments with a type hint each"),
        (star_kwargs, "tool 'star_kwargs' takes '**xs: int', expected named arguments with a type hint each"),
        (positional_only, "tool 'positional_only' takes 'x: int', expected named arguments with a type hint each"),
        (
            unevaluable,
            "tool 'unevaluable' has a type hint that can't be evaluated (name 'Undefined' is not defined); "
            "expected types that are defined above the tool, in its module",
        ),
        (
            missing_attribute,
            "tool 'missing_attribute' has a type hint that can't be evaluated (module 'string' has no attribute "
            "'Undefined'); expected types that are defined above the tool, in its module",
        ),
        (unknown_type, f"argument 'x' of tool 'unknown_type': the type hint set[int] {NO_SCHEMA}"),
        (
            unknown_enum,
            "argument 'x' of tool 'unknown_enum': typing.Literal[b'a'] has the values [b'a'], "
            "expected strings, numbers, booleans or None",
        ),
        (open_tuple, f"argument 'x' of tool 'open_tuple': the type hint tuple[int, ...] {NO_SCHEMA}"),
        (
            unquoted_choices,
            "argument 'x' of tool 'unquoted_choices': choices must be a JSON list like [\"tea\", \"coffee\"], "
            "not '[tea, coffee]'",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_author_is_told_what_is_missing(function, sentence):
    with pytest.raises(EnvironmentSpecError) as raised:
        Tool.from_function(function)
    assert str(raised.value) == sentence
