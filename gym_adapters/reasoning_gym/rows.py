"""Rows: entries of reasoning-gym as JSON values, and back without loss."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from gym_core.errors import TaskError

_TUPLE, _PAIRS, _FRACTION = "__tuple__", "__pairs__", "__fraction__"


def to_json(value: Any) -> Any:
    """Convert a value to types that JSON keeps; tuples, fractions and dicts with keys other than strings are tagged.

    Scorers compare tuples with tuples: without the tags, the right answer of `arc_agi` would score 0.05 after JSON.

    Raises:
        TaskError: The value holds anything else.
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, tuple):
        return {_TUPLE: [to_json(item) for item in value]}
    if isinstance(value, Fraction):
        return {_FRACTION: str(value)}
    if isinstance(value, dict):
        if all(isinstance(key, str) and key not in (_TUPLE, _PAIRS, _FRACTION) for key in value):
            return {key: to_json(item) for key, item in value.items()}
        return {_PAIRS: [[to_json(key), to_json(item)] for key, item in value.items()]}
    raise TaskError(f"an entry of reasoning-gym must hold JSON values, tuples, fractions and dicts, not {value!r}")


def from_json(value: Any) -> Any:
    """Restore the value from the result of `to_json`."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if isinstance(value, dict):
        if _TUPLE in value:
            return tuple(from_json(item) for item in value[_TUPLE])
        if _FRACTION in value:
            return Fraction(value[_FRACTION])
        if _PAIRS in value:
            return {from_json(key): from_json(item) for key, item in value[_PAIRS]}
        return {key: from_json(item) for key, item in value.items()}
    return value
