"""Tools: what the policy can call, with schemas in the OpenAI function-calling format."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NotRequired, TypeVar

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from gym_core.environments.schemas import arguments, function_schema, type_hints
from gym_core.errors import EnvironmentSpecError, ToolError
from gym_core.messages import ToolSchema

Method = TypeVar("Method", bound=Callable[..., Any])
Parse = Callable[[str], dict[str, Any]]

_MARK = "__gym_tool__"


def tool(method: Method) -> Method:
    """Offer a method of an environment to the policy.

    Its name, type hints and Google-style docstring become the schema; every word of the docstring is prompt text. It
    may be sync or async; a sync tool runs on the event loop, so it must not block. A string is shown as it is, any
    other result as JSON.
    """
    setattr(_function_of(method), _MARK, True)
    return method


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the policy can call, and the schema it sees.

    Build one with `Tool.from_function` or `Tool.from_schema`.

    Attributes:
        schema: Schema in the OpenAI function-calling format.
        function: Sync or async function, called with the arguments by name.
        parse: Function that turns the policy's JSON text into the arguments, or raises ToolError.
    """

    schema: ToolSchema
    function: Callable[..., Any]
    parse: Parse

    @classmethod
    def from_function(cls, function: Callable[..., Any]) -> Tool:
        """Make a tool from a function with type hints and a Google-style docstring.

        Raises:
            EnvironmentSpecError: A hint or a description is missing, or a hint has no JSON form.
        """
        hints = type_hints(function)
        return cls(function_schema(function, hints), function, _hints_parser(function, hints))

    @classmethod
    def from_schema(cls, schema: Mapping[str, Any], function: Callable[..., Any]) -> Tool:
        """Make a tool from a JSON schema; `function` gets the arguments by name.

        Args:
            schema: Schema as `{"type": "function", "function": {"name", "description", "parameters"}}`, or its inner
                part.
            function: Sync or async function.

        Raises:
            EnvironmentSpecError: The schema has no name, or its `parameters` is not a JSON schema.
        """
        inner = dict(schema.get("function", schema))
        inner.pop("type", None)
        if not isinstance(inner.get("name"), str):
            raise EnvironmentSpecError(f"a tool schema needs a name, got {schema!r}")
        inner.setdefault("parameters", {"type": "object", "properties": {}})
        return cls(
            {"type": "function", "function": inner}, function, _schema_parser(inner["name"], inner["parameters"])
        )

    @property
    def name(self) -> str:
        """The name by which the policy calls the tool."""
        return str(self.schema["function"]["name"])

    def bind(self, owner: object) -> Tool:
        """The tool of one episode: the function becomes a method of `owner`."""
        return replace(self, function=functools.partial(self.function, owner))

    async def __call__(self, arguments: str) -> str:
        """Run the tool on the policy's JSON text.

        Raises:
            ToolError: The arguments don't fit the schema, or the tool refused.
        """
        result = self.function(**self.parse(arguments))
        if inspect.isawaitable(result):
            result = await result
        return self.text(result)

    def text(self, result: Any) -> str:
        """A result as the policy reads it: a string as it is, anything else as JSON."""
        return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def class_tools(owner: type) -> dict[str, Tool]:
    """The methods of a class marked with `@tool`, unbound, in the order they are defined; parents first."""
    members = [pair for cls in reversed(owner.__mro__) for pair in vars(cls).items()]
    methods = {name: getattr(owner, name) for name, member in members if hasattr(_function_of(member), _MARK)}
    tools = {name: Tool.from_function(method) for name, method in methods.items() if hasattr(method, _MARK)}
    for name, made in tools.items():
        if isinstance(inspect.getattr_static(owner, name), staticmethod | classmethod):
            tools[name] = replace(made, function=functools.partial(_without_owner, made.function))
    return tools


def _function_of(member: Any) -> Any:
    """The function inside a static or class method; otherwise the member itself."""
    return member.__func__ if isinstance(member, staticmethod | classmethod) else member


def _without_owner(function: Callable[..., Any], owner: object, /, **arguments: Any) -> Any:
    return function(**arguments)


def _hints_parser(function: Callable[..., Any], hints: dict[str, Any]) -> Parse:
    """Validate by type hints."""
    fields = {
        name: hints[name] if parameter.default is parameter.empty else NotRequired[hints[name]]
        for name, parameter in arguments(function).items()
    }
    # A TypedDict, because its keys may have any name, and defaults stay the function's own.
    typed_dict: Any = TypedDict  # mypy knows the functional form only with literal fields
    expected = typed_dict("Arguments", fields)
    expected.__pydantic_config__ = ConfigDict(extra="forbid")
    try:
        adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(expected)
    except PydanticSchemaGenerationError as error:
        raise EnvironmentSpecError(f"tool {function.__name__!r}: {error}") from error

    def parse(text: str) -> dict[str, Any]:
        try:
            return adapter.validate_json(text or "{}")
        except ValidationError as error:
            raise ToolError(_explain(function.__name__, list(fields), error)) from error

    return parse


def _explain(tool: str, names: list[str], error: ValidationError) -> str:
    """One sentence that a model can act on: where, what is wrong, what was found."""
    details = []
    for found in error.errors(include_url=False):
        where = ".".join(map(str, found["loc"])) or "arguments"
        match found["type"]:
            case "missing":
                details.append(f"{where!r} is missing")
            case "extra_forbidden":
                details.append(f"there is no argument {where!r}; the arguments are {', '.join(names) or 'none'}")
            case "json_invalid":
                details.append(f"the arguments are not valid JSON ({found['ctx']['error']})")
            case "dict_type" if not found["loc"]:
                details.append(f"the arguments must be a JSON object, not {_short(found['input'])}")
            case _:
                details.append(f"{where!r}: {found['msg'][0].lower()}{found['msg'][1:]}, not {_short(found['input'])}")
    return f"invalid arguments for {tool!r}: {'; '.join(details)}"


def _schema_parser(tool: str, schema: dict[str, Any]) -> Parse:
    """Validate by a JSON schema (draft 2020-12)."""
    from jsonschema import Draft202012Validator, SchemaError  # takes 40 ms: only for tools made from a schema
    from jsonschema.exceptions import best_match

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise EnvironmentSpecError(f"the parameters of tool {tool!r} are not a JSON schema: {error.message}") from error
    validator = Draft202012Validator(schema)

    def parse(text: str) -> dict[str, Any]:
        try:
            values = json.loads(text or "{}")
        except (ValueError, RecursionError) as error:
            raise ToolError(f"invalid arguments for {tool!r}: the arguments are not valid JSON ({error})") from error
        if not isinstance(values, dict):
            raise ToolError(
                f"invalid arguments for {tool!r}: the arguments must be a JSON object, not {_short(values)}"
            )
        if wrong := best_match(validator.iter_errors(values)):
            where = ".".join(map(str, wrong.absolute_path)) or "arguments"
            raise ToolError(f"invalid arguments for {tool!r}: {where!r}: {wrong.message}")
        return values

    return parse


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
