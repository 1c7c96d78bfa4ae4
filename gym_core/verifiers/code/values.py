"""Values as JSON, for what crosses between a solution and its judges. Needs the standard library only.

JSON's own types stand for themselves; any other value is an object of one name, its type. Decoding makes nothing but
data: no class of the other side, and no code of it, ever comes across.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

_LARGEST_INT = 1 << 63  # above it Python's JSON is quadratic and then refuses


def to_json(value: Any, other: Callable[[Any], Any] | None = None) -> str:
    """Write a value.

    Args:
        value: A number, string, bytes or None; a list, tuple, set or dict of them; or a number or array of numpy.
        other: Function that gives the content of an "object" for anything else.

    Raises:
        TypeError: The value is anything else, and there is no such function.
        RecursionError: The value is nested too deeply.
    """
    return json.dumps(_plain(value, other))


def from_json(text: str, other: Callable[[Any], Any] | None = None) -> Any:
    """Read a value.

    Args:
        text: Text that `to_json` wrote, or that claims so.
        other: Function that makes something of the content of an "object". Without it objects are refused, and arrays
            are lists: a caller that does not expect numpy's types must not be made to allocate them.

    Raises:
        ValueError: The text is not such a value.
        RecursionError: The value is nested too deeply.
    """
    try:
        return _value(json.loads(text), other)
    except (TypeError, KeyError, IndexError, OverflowError) as error:
        raise ValueError(f"not a value: {error}") from error


def _plain(value: Any, other: Callable[[Any], Any] | None) -> Any:
    if value is None or isinstance(value, bool | str | float):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) < _LARGEST_INT else {"int": hex(value)}
    if isinstance(value, list):
        return [_plain(item, other) for item in value]
    if isinstance(value, dict):
        return {"dict": [[_plain(key, other), _plain(item, other)] for key, item in value.items()]}
    for kind in (tuple, set, frozenset):
        if isinstance(value, kind):
            return {kind.__name__: [_plain(item, other) for item in value]}
    if isinstance(value, bytes | bytearray):
        return {"bytes": value.hex()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    numpy = sys.modules.get("numpy")
    if numpy and isinstance(value, numpy.ndarray):
        return {"array": [str(value.dtype), _plain(value.tolist(), other)]}
    if numpy and isinstance(value, numpy.generic):
        return _plain(value.item(), other)
    if other is None:
        raise TypeError(f"a value must be data, not {type(value).__name__}")
    return {"object": other(value)}


def _value(plain: Any, other: Callable[[Any], Any] | None) -> Any:
    if isinstance(plain, list):
        return [_value(item, other) for item in plain]
    if not isinstance(plain, dict):
        return plain
    ((kind, content),) = plain.items()
    if kind == "object" and other:
        return other(content)
    if kind == "dict":
        return {_value(key, other): _value(item, other) for key, item in content}
    if kind in ("tuple", "set", "frozenset"):
        items = [_value(item, other) for item in content]
        return tuple(items) if kind == "tuple" else set(items) if kind == "set" else frozenset(items)
    if kind == "array":
        numpy = sys.modules.get("numpy")
        items = _value(content[1], other)
        return numpy.array(items, dtype=content[0]) if numpy and other else items
    makers: dict[str, Callable[[], Any]] = {
        "int": lambda: int(content, 16),
        "bytes": lambda: bytes.fromhex(content),
        "complex": lambda: complex(*content),
    }
    return makers[kind]()
