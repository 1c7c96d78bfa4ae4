import json
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from gym_core import (
    Environment,
    EnvironmentSpecError,
    Episode,
    ScriptedPolicy,
    Task,
    Tool,
    ToolError,
    assistant,
    rollout,
    tool,
    tool_call,
)


class Unit(Enum):
    CELSIUS = "celsius"
    KELVIN = "kelvin"


def forecast(city: str, days: int = 3, unit: Unit = Unit.CELSIUS, where: dict | None = None) -> Any:
    """Tell the weather.

    Args:
        city: Where.
        days: How far ahead.
        unit: In which unit.
        where: More about the place.
    """
    return [city, days, unit.value, where]


FORECAST = Tool.from_function(forecast)
INVALID = "invalid arguments for 'forecast': "


async def refusal(tool: Tool, arguments: str) -> str:
    with pytest.raises(ToolError) as raised:
        await tool(arguments)
    return str(raised.value)


async def test_defaults_are_the_functions_own():
    assert json.loads(await FORECAST('{"city": "Bern"}')) == ["Bern", 3, "celsius", None]
    assert json.loads(await FORECAST('{"city": "Bern", "unit": "kelvin", "where": {}}')) == ["Bern", 3, "kelvin", {}]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("{}", "'city' is missing"),
        ("", "'city' is missing"),
        ("{", "the arguments are not valid JSON (EOF while parsing an object at line 1 column 1)"),
        ("   ", "the arguments are not valid JSON (EOF while parsing a value at line 1 column 3)"),
        ("[" * 100_000, "the arguments are not valid JSON (recursion limit exceeded at line 1 column 202)"),
        (
            '{"city": "\\ud800"}',
            "the arguments are not valid JSON (unexpected end of hex escape at line 1 column 17)",
        ),
        ("[]", "the arguments must be a JSON object, not []"),
        ("null", "the arguments must be a JSON object, not None"),
        ('"Bern"', "the arguments must be a JSON object, not 'Bern'"),
        ('{"city": 3}', "'city': input should be a valid string, not 3"),
        (
            '{"city": "Bern", "days": "many"}',
            "'days': input should be a valid integer, unable to parse string as an integer, not 'many'",
        ),
        ('{"city": "Bern", "unit": "rankine"}', "'unit': input should be 'celsius' or 'kelvin', not 'rankine'"),
        ('{"city": "Bern", "where": "here"}', "'where': input should be an object, not 'here'"),
        (
            '{"city": "Bern", "day": 1}',
            "there is no argument 'day'; the arguments are city, days, unit, where",
        ),
        (
            '{"days": null}',
            "'city' is missing; 'days': input should be a valid integer, not None",
        ),
        (json.dumps({"city": ["a" * 200]}), f"'city': input should be a valid string, not ['{'a' * 75}..."),
    ],
    ids=lambda value: value[:30],
)
async def test_the_model_is_told_what_would_be_right(arguments, sentence):
    assert await refusal(FORECAST, arguments) == INVALID + sentence


async def test_text_that_is_not_unicode_is_refused():
    assert "unicode" in await refusal(FORECAST, '{"city": "\ud800"}')


async def test_a_tool_without_arguments_says_so():
    def now() -> str:
        """Tell the time."""
        return "noon"

    assert await Tool.from_function(now)("") == "noon"
    assert await refusal(Tool.from_function(now), '{"x": 1}') == (
        "invalid arguments for 'now': there is no argument 'x'; the arguments are none"
    )


async def test_arguments_may_have_names_that_pydantic_uses():
    def odd(
        schema: int, json: str, copy: bool, self_: int, model_config: str, validate: int, cls: int, owner: int
    ) -> Any:
        """Take odd names.

        Args:
            schema: A.
            json: B.
            copy: C.
            self_: D.
            model_config: E.
            validate: F.
            cls: G.
            owner: H.
        """
        return [schema, json, copy, self_, model_config, validate, cls, owner]

    text = (
        '{"schema": 1, "json": "b", "copy": true, "self_": 2, "model_config": "e", "validate": 3, "cls": 4, "owner": 5}'
    )
    assert json.loads(await Tool.from_function(odd)(text)) == [1, "b", True, 2, "e", 3, 4, 5]


async def test_constraints_of_annotated_are_checked():
    def dial(digit: Annotated[int, Field(ge=0, le=9)]) -> str:
        """Dial.

        Args:
            digit: A digit.
        """
        return "ringing"

    dialer = Tool.from_function(dial)
    assert await dialer('{"digit": 9}') == "ringing"
    assert await refusal(dialer, '{"digit": 10}') == (
        "invalid arguments for 'dial': 'digit': input should be less than or equal to 9, not 10"
    )


async def test_wrong_elements_are_found_by_their_place():
    def draw(points: list[tuple[float, float]], mode: Literal["line", "dot"] = "line") -> str:
        """Draw.

        Args:
            points: Where.
            mode: How.
        """
        return ""

    assert await refusal(Tool.from_function(draw), '{"points": [[0, 1], [2]]}') == (
        "invalid arguments for 'draw': 'points.1.1' is missing"
    )


async def test_arguments_with_a_default_are_not_required():
    assert FORECAST.name == "forecast"
    assert FORECAST.schema["function"]["parameters"]["required"] == ["city"]


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        ("as it is: é\n", "as it is: é\n"),
        ("", ""),
        (None, "null"),
        (3, "3"),
        (True, "true"),
        ({"grad": "°"}, '{"grad": "°"}'),
        ([1, (2, 3)], "[1, [2, 3]]"),
    ],
    ids=repr,
)
async def test_text_is_shown_as_it_is_and_anything_else_as_json(result, shown):
    def answer() -> Any:
        """Answer."""
        return result

    async def wait() -> Any:
        """Answer later."""
        return result

    assert await Tool.from_function(answer)("") == shown
    assert await Tool.from_function(wait)("") == shown


async def test_a_result_without_json_form_breaks_the_episode():
    class Opaque(Environment):
        @tool
        def answer(self) -> Any:
            """Answer."""
            return object()

        def verify(self, rollout):
            return 1.0

    played = await rollout(Opaque(Task([{"role": "user", "content": "?"}])), calls("answer"))
    assert played.reward is None
    assert played.error.kind == "tool"
    assert played.error.message == "TypeError: Object of type object is not JSON serializable"


def calls(*names: str) -> ScriptedPolicy:
    return ScriptedPolicy([assistant(tool_calls=[tool_call(name) for name in names])])


# from_schema

BOOKING = {
    "name": "book",
    "description": "Book a room.",
    "parameters": {
        "type": "object",
        "properties": {
            "room": {"type": "object", "properties": {"kind": {"enum": ["single", "double"]}}, "required": ["kind"]},
            "code": {"type": "string", "pattern": "^[A-Z]{3}$"},
            "nights": {"type": "integer", "minimum": 1},
        },
        "required": ["room"],
        "additionalProperties": False,
    },
}


def echo(**arguments: Any) -> Any:
    return arguments


async def test_a_schema_makes_a_tool_that_receives_the_arguments_by_name():
    book = Tool.from_schema({"type": "function", "function": BOOKING}, echo)
    assert book.schema == {"type": "function", "function": BOOKING}
    assert json.loads(await book('{"room": {"kind": "double"}, "nights": 2}')) == {
        "room": {"kind": "double"},
        "nights": 2,
    }


def test_the_inner_part_of_a_schema_is_enough():
    assert Tool.from_schema({"type": "function", **BOOKING}, echo).schema == {"type": "function", "function": BOOKING}


async def test_a_schema_without_parameters_takes_none():
    look = Tool.from_schema({"name": "look"}, lambda: "a wall")
    assert look.schema["function"]["parameters"] == {"type": "object", "properties": {}}
    assert await look("") == "a wall"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("", "'arguments': 'room' is a required property"),
        ('{"room": {"kind": "suite"}}', "'room.kind': 'suite' is not one of ['single', 'double']"),
        ('{"room": {}}', "'room': 'kind' is a required property"),
        ('{"room": {"kind": "single"}, "code": "abc"}', "'code': 'abc' does not match '^[A-Z]{3}$'"),
        ('{"room": {"kind": "single"}, "nights": 0}', "'nights': 0 is less than the minimum of 1"),
        (
            '{"room": {"kind": "single"}, "view": "sea"}',
            "'arguments': Additional properties are not allowed ('view' was unexpected)",
        ),
        ("[1]", "the arguments must be a JSON object, not [1]"),
        (
            "{",
            "the arguments are not valid JSON "
            "(Expecting property name enclosed in double quotes: line 1 column 2 (char 1))",
        ),
    ],
)
async def test_the_model_is_told_where_the_schema_is_not_met(arguments, sentence):
    assert await refusal(Tool.from_schema(BOOKING, echo), arguments) == f"invalid arguments for 'book': {sentence}"


async def test_deep_nesting_is_refused_by_a_schema_too():
    assert "not valid JSON" in await refusal(Tool.from_schema(BOOKING, echo), "[" * 100_000)


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        ({}, "a tool schema needs a name, got {}"),
        ({"type": "function", "function": {"name": 3}}, "a tool schema needs a name, got "),
        (
            {"name": "f", "parameters": {"type": "objekt"}},
            "the parameters of tool 'f' are not a JSON schema: 'objekt' is not valid under any of the given schemas",
        ),
        (
            {"name": "f", "parameters": {"properties": {"x": {"pattern": "("}}}},
            "the parameters of tool 'f' are not a JSON schema: '(' is not a 'regex'",
        ),
        ({"name": "f", "parameters": []}, "the parameters of tool 'f' are not a JSON schema: "),
    ],
)
def test_the_author_is_told_what_is_wrong_with_a_schema(schema, sentence):
    with pytest.raises(EnvironmentSpecError) as raised:
        Tool.from_schema(schema, echo)
    assert str(raised.value).startswith(sentence)


# tools of classes


class Parent(Environment):
    @tool
    def first(self) -> str:
        """Be first."""
        return "parent"

    @tool
    def second(self) -> str:
        """Be second."""
        return f"second of {self.task.answer}"

    @tool
    async def third(self) -> str:
        """Be third."""
        return "third"

    def not_a_tool(self) -> str:
        return ""


class Child(Parent):
    second = None

    @tool
    def fourth(self, x: int = 1) -> str:
        """Be fourth.

        Args:
            x: A number.
        """
        return "fourth"

    @tool
    def first(self) -> str:
        """Be the child's first."""
        return "child"


class Unmarked(Parent):
    def first(self) -> str:
        return "not offered any more"


TASK = Task([], answer="x")


def test_tools_are_the_marked_methods_in_order_parents_first():
    assert list(Parent(TASK).tools) == ["first", "second", "third"]
    assert list(Child(TASK).tools) == ["first", "third", "fourth"]
    assert list(Unmarked(TASK).tools) == ["second", "third"]
    assert list(Environment(TASK).tools) == []


async def test_a_subclass_can_override_a_tool():
    assert await Child(TASK).tools["first"]("") == "child"
    assert Child(TASK).tools["first"].schema["function"]["description"] == "Be the child's first."
    assert await Parent(TASK).tools["first"]("") == "parent"


async def test_a_tool_is_bound_to_its_own_environment():
    one, other = Parent(Task([], answer="one")), Parent(Task([], answer="other"))
    assert await one.tools["second"]("") == "second of one"
    assert await other.tools["second"]("") == "second of other"


def test_a_method_stays_callable_as_it_is():
    assert Parent(TASK).second() == "second of x"


def test_a_wrong_tool_is_found_when_the_class_is_made():
    with pytest.raises(EnvironmentSpecError, match="argument 'x' of tool 'f' needs a type hint"):

        class Wrong(Environment):
            @tool
            def f(self, x):
                """Do it."""


class Growing(Environment):
    def setup(self):
        self.tools["book"] = Tool.from_schema(BOOKING, self.book)

    def book(self, room: dict[str, str], nights: int = 1) -> str:
        return f"{room['kind']} for {nights}"

    def verify(self, rollout):
        return 1.0


async def test_tools_added_in_setup_are_seen_and_called():
    async with Episode(Growing(Task([{"role": "user", "content": "?"}]))) as episode:
        assert episode.tools == [{"type": "function", "function": BOOKING}]
        answer = await episode.call(tool_call("book", '{"room": {"kind": "double"}}'))
    assert answer["content"] == "double for 1"
    assert Growing(TASK).tools == {}


@pytest.mark.parametrize(
    "wrapped", [lambda f: staticmethod(tool(f)), lambda f: tool(staticmethod(f))], ids=["outside", "inside"]
)
async def test_a_static_method_is_a_tool_too(wrapped):
    class Adder(Environment):
        @wrapped
        def add(x: int) -> int:
            """Add one.

            Args:
                x: A number.
            """
            return x + 1

    class Kinds(Adder):
        @tool
        @classmethod
        def kind(cls) -> str:
            """Its name."""
            return cls.__name__

    env = Kinds(Task([]))
    assert list(env.tools) == ["add", "kind"]
    assert [await env.tools["add"]('{"x": 1}'), await env.tools["kind"]("{}")] == ["2", "Kinds"]
