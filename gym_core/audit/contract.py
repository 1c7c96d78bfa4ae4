"""The contract of an environment: what every trainer takes for granted of its tasks and tools."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from gym_core.audit.findings import Finding
from gym_core.audit.trials import Trial
from gym_core.environments import EnvironmentFactory, Task

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""The function names that OpenAI's chat completions API accepts."""


def find_contract(env: EnvironmentFactory, tasks: Sequence[Task], trials: Sequence[Trial]) -> Iterator[Finding]:
    """Breaches of the contract, all of them defects."""
    if next(iter(env.tasks), None) != tasks[0]:
        yield Finding("tasks", True, "other tasks come when they are iterated over again, expected the same ones")
    repeated = [task for task, count in Counter(task.id for task in tasks).items() if count > 1]
    if repeated:
        yield Finding("tasks", True, "several tasks have the same id, expected one task per id", tuple(repeated))
    changed = tuple(dict.fromkeys(task.id for task in tasks if not _survives_json(task)))
    if changed:
        sentence = "tasks change on their way through JSON, expected lists instead of tuples, and strings as keys"
        yield Finding("tasks", True, sentence, changed)
    yield from _tool_names(trials)


def _survives_json(task: Task) -> bool:
    try:
        return Task(**json.loads(json.dumps(task.to_row()))) == task
    except (TypeError, ValueError):
        return False


def _tool_names(trials: Sequence[Trial]) -> Iterator[Finding]:
    refused: dict[str, dict[str, None]] = {}
    for trial in trials:
        for schema in trial.rollout.tools:
            name = schema["function"]["name"]
            if not _TOOL_NAME.fullmatch(name):
                refused.setdefault(name, {})[trial.rollout.task.id] = None
    for name, tasks in refused.items():
        sentence = f"tool {name!r} needs a name of letters, digits, '_' and '-', 64 at most"
        yield Finding("tools", True, sentence, tuple(tasks))
