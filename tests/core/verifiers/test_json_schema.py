import asyncio
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gym_core.verifiers import json_match

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "number", "minimum": 0}},
    "required": ["city"],
    "additionalProperties": False,
}
TREE = {"$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}, "$ref": "#/$defs/tree"}


@pytest.mark.parametrize(
    ("completion", "schema", "reward"),
    [
        ('{"city": "Oslo", "city": "Rome"}', CITY, 0.0),
        ('{"city": "Oslo", "people": NaN}', CITY, 0.0),
        ('{"city": "Oslo", "people": Infinity}', CITY, 0.0),
        ('{"city": "Oslo", "people": 1e400}', CITY, 0.0),
        ('{"city": "Oslo", "people": ' + "9" * 5000 + "}", CITY, 0.0),
        ("9" * 4000, {"multipleOf": 0.5}, 0.0),
        ("[" * 100_000, {}, 0.0),
        ("[" * 100_000 + "]" * 100_000, {}, 0.0),
        ("[" * 500 + "]" * 500, TREE, 0.0),
        ("[[], [[]]]", TREE, 1.0),
        ("[[], [1]]", TREE, 0.0),
        ('```json\n{"city": "Oslo"}\n```', CITY, 1.0),
        ('```JSON \n{"city": "Oslo"}\n```', CITY, 1.0),
        ('Here it is:\n```json\n{"city": "Oslo"}\n```\nEnjoy.', CITY, 1.0),
        ('```json\n{}\n```\nNo:\n```json\n{"city": "Oslo"}\n```', CITY, 1.0),
        ('```json\n{"city": "Oslo"}\n```\nNo:\n```json\n{}\n```', CITY, 0.0),
        ('```json\n{"city": "Oslo"}\n```\n```python\nprint()\n```', CITY, 1.0),
        ('```\n{"city": "Oslo"}\n```', CITY, 1.0),
        ('```\n{}\n```\n```\n{"city": "Oslo"}\n```', CITY, 1.0),
        ('```json\n{"city": "Oslo"}', CITY, 0.0),
        ('```json\n{}\n```\n```json\n{"city": "Oslo"}', CITY, 0.0),
        ('The city is {"city": "Oslo"}', CITY, 0.0),
        ('{"city": "Oslo"} {"city": "Rome"}', CITY, 0.0),
        ("{'city': 'Oslo'}", CITY, 0.0),
        ('{"city": "Oslo",}', CITY, 0.0),
        ('{"city": "Oslo", "country": "Norway"}', CITY, 0.0),
        ('{"city": 5}', CITY, 0.0),
        ('{"city": "\\ud800"}', CITY, 1.0),
        ('{"city": "\ud800"}', CITY, 1.0),
        ('{"city": "\x00"}', CITY, 0.0),
        ('\ufeff{"city": "Oslo"}', CITY, 0.0),
        (json.dumps(CITY), CITY, 0.0),
        ("", {}, 0.0),
        ("```json\n```", {}, 0.0),
        ("null", {}, 1.0),
        ("true", {"type": "integer"}, 0.0),
        (' \n{"city": "Oslo", "people": 1.5}\n', CITY, 1.0),
    ],
)
async def test_json_match_scores_the_value_that_the_completion_gives(completion, schema, reward):
    assert await json_match(completion, schema) == reward


@pytest.mark.parametrize("text", ["1", " ", "`", "```", "```\n", "```json\n", '"', "\\", "[", '{"a":', "\x00"])
async def test_long_completions_take_linear_time(text):
    assert await json_match(text * 250_000, CITY) == 0.0


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        (
            {"type": "strng"},
            "a json_match schema must be JSON Schema: 'strng' is not valid under any of the given schemas at $.type",
        ),
        ({"pattern": "("}, "a json_match schema must be JSON Schema: '(' is not a 'regex' at $.pattern"),
        ([1], "a json_match schema must be a JSON object, not [1]"),
        (
            {"const": {1, 2}},
            "a json_match schema must be a JSON object, not {'const': {1, 2}}: "
            "Object of type set is not JSON serializable",
        ),
        (
            {"$ref": "https://example.com/city.json"},
            "a json_match schema must contain what it refers to: Unresolvable: https://example.com/city.json",
        ),
        ({"$ref": "#"}, "a json_match schema must not refer to itself endlessly, as {'$ref': '#'} does"),
        (
            {"anyOf": [{"type": "null"}, {"$ref": "#"}]},
            "a json_match schema must not refer to itself endlessly, as "
            "{'anyOf': [{'type': 'null'}, {'$ref': '#'}]} does",
        ),
    ],
)
async def test_a_mistake_of_the_author_is_one_sentence(schema, sentence):
    with pytest.raises(ValueError, match="json_match schema") as raised:
        await json_match("{}", schema)
    assert str(raised.value) == sentence


@pytest.mark.slow
async def test_a_value_that_hangs_the_validator_scores_0():
    assert await json_match(json.dumps("a" * 64 + "b"), {"pattern": "^(a+)+$"}) == 0.0


def test_jsonschema_is_imported_only_when_it_is_needed():
    script = "import gym_core.verifiers, sys; sys.exit('jsonschema' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@settings(deadline=None)
@given(st.text(st.characters(), max_size=200))
def test_json_match_scores_any_text_0_or_1(completion):
    assert asyncio.run(json_match(completion, CITY)) == 0.0
    assert asyncio.run(json_match(completion, {})) in (0.0, 1.0)
    assert asyncio.run(json_match(f"```json\n{completion}\n```", TREE)) in (0.0, 1.0)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=20,
)


@settings(deadline=None, max_examples=30)
@given(JSON_VALUES)
def test_a_json_value_fits_the_schema_of_itself(value):
    assert asyncio.run(json_match(json.dumps(value), {"const": value})) == 1.0
