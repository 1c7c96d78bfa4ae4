"""The worker of `json_match`: the parser and jsonschema, which the parent never imports."""

import json
import math
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from referencing.exceptions import Unresolvable
from referencing.jsonschema import EMPTY_REGISTRY

_FENCE = "```"
_ONE_OF_EACH_TYPE: tuple[Any, ...] = (None, True, 0, "", [], {})


def json_fits(completion: str, schema_text: str) -> tuple[bool, str | None]:
    """Whether the value in a completion fits a schema; and what the schema must do, where the schema is at fault."""
    validator, problem = _validator(schema_text)
    if problem:
        return False, problem
    try:
        value = _stated_value(completion)
    except (ValueError, RecursionError):
        return False, None
    try:
        return validator.is_valid(value), None
    except Unresolvable as error:
        return False, f"contain what it refers to: {error}"
    # A value nested as deeply as a recursive schema allows, or an integer too large to divide by `multipleOf`.
    except (RecursionError, OverflowError):
        return False, None


@lru_cache
def _validator(schema_text: str) -> tuple[Draft202012Validator, str | None]:
    schema = json.loads(schema_text)
    # An explicit registry keeps jsonschema from fetching remote references.
    validator = Draft202012Validator(schema, registry=EMPTY_REGISTRY)
    try:
        Draft202012Validator.check_schema(schema)
        for value in _ONE_OF_EACH_TYPE:
            validator.is_valid(value)
    except SchemaError as error:
        return validator, f"be JSON Schema: {error.message} at {error.json_path}"
    except RecursionError:
        return validator, f"not refer to itself endlessly, as {schema!r} does"
    except Unresolvable as error:
        return validator, f"contain what it refers to: {error}"
    return validator, None


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
