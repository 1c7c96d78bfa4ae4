"""The comparison of what a call returned with what it should have."""

import math
from typing import Any

from gym_core.errors import WorkerHungError
from gym_core.processes import shared_workers
from gym_core.verifiers.code.values import from_json, to_json

_TOLERANCE = 1e-9
_SHORT = 1 << 12
"""Characters of a value that is read in this process. In a longer one, numbers chosen to have the same hash can make a
set or a dict take quadratic time, so a worker reads it."""
_CPU_S = 2.0
"""CPU seconds for reading a longer value."""


async def is_expected(found: str, expected: Any) -> bool:
    """Whether a value, as the solution's process wrote it, is the expected one.

    Floats match up to 1e-9, and tuples match lists. A text that is not a value, or takes too long to read, is not.

    Raises:
        WorkerLostError: The worker was lost, through no fault of the value.
    """
    expected_text = to_json(expected)
    if len(found) <= _SHORT:
        return matches(found, expected_text)
    try:
        return bool(await shared_workers().call(f"{__name__}:matches", found, expected_text, cpu_s=_CPU_S))
    except WorkerHungError:
        return False


def matches(found: str, expected: str) -> bool:
    """Whether two values are the same, both as `to_json` writes them; it can hang, so it is for a worker."""
    try:
        return _same(from_json(found), from_json(expected))
    except (ValueError, RecursionError):
        return False


def _same(found: Any, expected: Any) -> bool:
    if isinstance(expected, list | tuple):
        is_list = isinstance(found, list | tuple) and len(found) == len(expected)
        return is_list and all(_same(*pair) for pair in zip(found, expected, strict=True))
    if isinstance(expected, dict):
        is_dict = isinstance(found, dict) and found.keys() == expected.keys()
        return is_dict and all(_same(found[key], value) for key, value in expected.items())
    if isinstance(expected, float) or (isinstance(found, float) and isinstance(expected, int)):
        return isinstance(found, int | float) and _is_close(found, expected)
    return bool(found == expected)


def _is_close(found: float, expected: float) -> bool:
    try:
        return found == expected or math.isclose(found, expected, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    except OverflowError:  # an integer too large for a float
        return False
