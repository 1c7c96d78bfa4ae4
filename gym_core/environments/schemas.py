"""Tool schemas from typed functions, identical in text to those of `transformers.utils.get_json_schema`.

Chat templates print these schemas, so the order of keys is part of the contract (checked against transformers 5.23).
"""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Callable
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gym_core.errors import EnvironmentSpecError
from gym_core.messages import ToolSchema

_SCALARS: dict[type, str] = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
_CONTAINERS: dict[type, str] = {list: "array", tuple: "array", dict: "object"}
_HEADING = re.compile(r"\s*(Args|Returns|Raises):")
_ENTRY = re.compile(r"(\s*)(\w+)(?: \([^)]*\))?:\s*(.*)")
_CHOICES = re.compile(r"\(choices:\s*(.*?)\)\s*$", re.IGNORECASE)


def function_schema(function: Callable[..., Any], hints: dict[str, Any]) -> ToolSchema:
    """The schema of a function with type hints and a Google-style docstring.

    Args:
        function: Function whose docstring describes every argument; a leading `self` is skipped.
        hints: Result of `type_hints` for the function.

    Raises:
        EnvironmentSpecError: A hint or a description is missing, or a hint has no JSON form.
    """
    name = function.__name__
    sections = _sections(inspect.getdoc(function) or "")
    if not sections["description"]:
        raise EnvironmentSpecError(f"tool {name!r} needs a docstring: the policy reads it to know what the tool does")
    described = _entries(sections["Args"])
    properties = {argument: _property(name, argument, hints, described) for argument in arguments(function)}
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if required := [argument for argument, p in arguments(function).items() if p.default is p.empty]:
        parameters["required"] = required
    schema = {"name": name, "description": sections["description"], "parameters": parameters}
    if (returned := _returned(hints, sections["Returns"])) is not None:
        schema["return"] = returned
    return {"type": "function", "function": schema}


def arguments(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters that the policy fills in: all but a leading `self`."""
    parameters = dict(inspect.signature(function).parameters)
    parameters.pop("self", None)
    for parameter in parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise EnvironmentSpecError(
                f"tool {function.__name__!r} takes {str(parameter)!r}, expected named arguments with a type hint each"
            )
    return parameters


def type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The evaluated type hints of a function, `Annotated` constraints included.

    Raises:
        EnvironmentSpecError: A hint names something that is not defined where the function is.
    """
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise EnvironmentSpecError(
            f"tool {function.__name__!r} has a type hint that can't be evaluated ({error}); "
            "expected types that are defined above the tool, in its module"
        ) from error


def _property(tool: str, argument: str, hints: dict[str, Any], described: dict[str, str]) -> dict[str, Any]:
    if argument not in hints:
        raise EnvironmentSpecError(f"argument {argument!r} of tool {tool!r} needs a type hint")
    if argument not in described:
        raise EnvironmentSpecError(
            f"argument {argument!r} of tool {tool!r} needs a description in the docstring's Args section"
        )
    try:
        schema, description = _hint_schema(hints[argument]), described[argument]
    except EnvironmentSpecError as error:
        raise EnvironmentSpecError(f"argument {argument!r} of tool {tool!r}: {error}") from error
    if choices := _CHOICES.search(description):
        schema["enum"] = _choices(tool, argument, choices[1])
        description = description[: choices.start()].strip()
    return schema | {"description": description}


def _choices(tool: str, argument: str, listed: str) -> list[Any]:
    try:
        return [choice.strip() if isinstance(choice, str) else choice for choice in json.loads(listed)]
    except (ValueError, TypeError) as error:
        raise EnvironmentSpecError(
            f"argument {argument!r} of tool {tool!r}: "
            f'choices must be a JSON list like ["tea", "coffee"], not {listed!r}'
        ) from error


def _returned(hints: dict[str, Any], lines: list[str]) -> dict[str, Any] | None:
    """The schema of the result; None if the hint is missing or has no JSON form, which does no harm."""
    try:
        schema = _hint_schema(hints["return"])
    except (KeyError, EnvironmentSpecError):
        return None
    description = "\n".join(lines).strip()
    return schema | ({"description": description} if description else {})


def _hint_schema(hint: Any) -> dict[str, Any]:
    origin, args = get_origin(hint), get_args(hint)
    if hasattr(hint, "__metadata__"):  # Annotated[...]: constraints are checked, but not shown
        return _hint_schema(args[0])
    if hint is Any:
        return {}
    if origin in (Union, types.UnionType):
        return _union_schema(args)
    if origin is Literal:
        return _enum_schema(hint, list(args))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enum_schema(hint, [member.value for member in hint])
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    if not args and (container := hint if origin is None else origin) in _CONTAINERS:  # `list` or `typing.List`
        return {"type": _CONTAINERS[container]}
    if origin is list:
        return {"type": "array", "items": _hint_schema(args[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _hint_schema(args[1])}
    if origin is tuple and len(args) > 1 and ... not in args:
        return {"type": "array", "prefixItems": [_hint_schema(arg) for arg in args]}
    raise EnvironmentSpecError(
        f"the type hint {hint!r} has no JSON schema; expected int, float, str, bool, an Enum, a Literal, a list, "
        "a dict, a tuple of fixed length or a union of those, or the schema itself by Tool.from_schema"
    )


def _union_schema(args: tuple[Any, ...]) -> dict[str, Any]:
    options = [_hint_schema(arg) for arg in args if arg is not type(None)]
    if len(options) == 1:
        schema = options[0]
    elif all(option.keys() == {"type"} and isinstance(option["type"], str) for option in options):
        names = sorted({option["type"] for option in options})
        schema = {"type": names[0] if len(names) == 1 else names}
    else:
        schema = {"anyOf": options}
    return schema | ({"nullable": True} if type(None) in args else {})


def _enum_schema(hint: Any, values: list[Any]) -> dict[str, Any]:
    if not values or any(type(value) not in _SCALARS for value in values):
        raise EnvironmentSpecError(f"{hint!r} has the values {values!r}, expected strings, numbers, booleans or None")
    names = list(dict.fromkeys(_SCALARS[type(value)] for value in values))
    return {"type": names[0] if len(names) == 1 else names, "enum": values}


def _sections(docstring: str) -> dict[str, Any]:
    """The description as text, and the lines of the sections that transformers reads."""
    sections: dict[str, list[str]] = {"description": [], "Args": [], "Returns": [], "Raises": []}
    current = "description"
    for line in docstring.strip().splitlines():
        if heading := _HEADING.match(line):
            current = heading[1]
        else:
            sections[current].append(line)
    return sections | {"description": "\n".join(sections["description"]).strip()}


def _entries(lines: list[str]) -> dict[str, str]:
    """The descriptions of an Args section, continuation lines joined by a space."""
    entries: dict[str, str] = {}
    current, indent = "", ""
    for line in filter(str.strip, lines):
        entry = _ENTRY.match(line)
        if entry and (not entries or len(entry[1]) <= len(indent)):
            indent, current = entry[1], entry[2]
            entries[current] = entry[3].strip()
        elif current:
            entries[current] = f"{entries[current]} {line.strip()}".strip()
    return entries
