"""The verifier of JSON: the value that a completion gives fits a JSON schema."""

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

_FENCE = "```"


def json_match(completion: str, schema: Mapping[str, Any]) -> float:
    """Scores 1.0 when the completion gives a JSON value that fits the schema.

    The value is the whole completion; where that is not JSON, it is the last block fenced as `json`, or else the last
    fenced block. JSON is that of RFC 8259: `NaN` and `Infinity`, numbers too large for a float, and objects with a
    repeated name score 0.0, as does a value nested too deeply to parse.

    Args:
        completion: What the policy wrote.
        schema: A JSON schema of draft 2020-12. Its references stay inside it: nothing is fetched.

    Raises:
        ValueError: The schema is not one, or refers to what is not there.
    """
    validator = _validator(_schema_text(schema))
    try:
        value = _stated_value(completion)
    except (ValueError, RecursionError):
        return 0.0
    return float(_fits(value, validator))


def _schema_text(schema: Mapping[str, Any]) -> str:
    try:
        return json.dumps(schema, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"a json_match schema must be a JSON object, not {schema!r}: {error}") from error


@lru_cache
def _validator(schema_text: str) -> "Draft202012Validator":
    # Imported here to keep `import gym_core` light (it takes about 0.1 s); Python caches it.
    from jsonschema import Draft202012Validator, SchemaError
    from referencing.jsonschema import EMPTY_REGISTRY

    schema = json.loads(schema_text)
    if not isinstance(schema, dict):
        raise ValueError(f"a json_match schema must be a JSON object, not {schema!r}")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"a json_match schema must be JSON Schema: {error.message} at {error.json_path}") from error
    # An explicit registry keeps jsonschema from fetching remote references.
    return Draft202012Validator(schema, registry=EMPTY_REGISTRY)


def _stated_value(completion: str) -> Any:
    try:
        return _strict_json(completion)
    except ValueError:
        return _strict_json(_last_block(completion))


def _last_block(completion: str) -> str:
    closed_blocks = completion.split(_FENCE)[1:-1:2]
    contents = [block.partition("\n") for block in closed_blocks]
    json_contents = [content for language, _, content in contents if language.strip().lower() == "json"]
    all_contents = [content for _, _, content in contents]
    return (json_contents or all_contents or [""])[-1]


def _strict_json(text: str) -> Any:
    return json.loads(
        text, object_pairs_hook=_unique_names, parse_constant=_refuse_constant, parse_float=_finite_number
    )


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        raise ValueError("an object repeats a name")
    return names


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _finite_number(literal: str) -> float:
    number = float(literal)
    if not math.isfinite(number):
        raise ValueError(f"{literal} is too large")
    return number


def _fits(value: Any, validator: "Draft202012Validator") -> bool:
    # jsonschema depends on it, so it is loaded already.
    from referencing.exceptions import Unresolvable

    try:
        return validator.is_valid(value)
    except Unresolvable as error:
        raise ValueError(f"a json_match schema must contain what it refers to: {error}") from error
    # A value as deep as a recursive schema allows, or an integer too large to divide by `multipleOf`.
    except (RecursionError, OverflowError):
        return False
