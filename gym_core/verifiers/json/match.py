"""The match of a completion with a JSON schema."""

import json
from collections.abc import Mapping
from typing import Any

from gym_core.errors import WorkerHungError
from gym_core.processes import shared_workers

_CPU_S = 2.0
"""CPU seconds per validation."""


async def json_match(completion: str, schema: Mapping[str, Any]) -> float:
    """Scores 1.0 when the completion gives a JSON value that fits the schema.

    The value is the whole completion; where that is not JSON, it is the last block fenced as `json`, or else the last
    fenced block. JSON means RFC 8259: `NaN` and `Infinity`, numbers too large for a float, and objects that repeat a
    name score 0.0, as does a value nested too deeply to parse.

    It runs in a worker. A value that takes more than two CPU seconds, such as a string on which a `pattern` of the
    schema backtracks, scores 0.0.

    Args:
        completion: Text that the policy wrote.
        schema: JSON schema of draft 2020-12. References must stay inside it: nothing is fetched.

    Raises:
        ValueError: The schema is invalid, refers to itself endlessly, or refers to something that is not there.
        WorkerLostError: The worker was lost, through no fault of the completion.
    """
    try:
        schema_text = json.dumps(schema, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"a json_match schema must be a JSON object, not {schema!r}: {error}") from error
    if not isinstance(schema, Mapping):
        raise ValueError(f"a json_match schema must be a JSON object, not {schema!r}")
    worker = "gym_core.verifiers.json.worker:json_fits"  # this process never imports jsonschema
    try:
        fits, problem = await shared_workers().call(worker, completion, schema_text, cpu_s=_CPU_S)
    except WorkerHungError:
        return 0.0
    if problem:
        raise ValueError(f"a json_match schema must {problem}")
    return float(fits)
