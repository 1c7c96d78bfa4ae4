"""Rows: tasks as verl's datasets carry them to its reward functions and agent loops."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from gym_core import EnvironmentFactory, GymError, Task, load_environment, user

COLUMN = "gym"
"""The field of `extra_info` with the task as JSON text; Arrow would give every row the keys of all others."""


@dataclass(frozen=True)
class Source:
    """The origin of tasks, from which any process can make their environments.

    Attributes:
        environment: Name as `"package.module:name"`, for `load_environment`.
        arguments: JSON arguments, if the name is a function.
        components: Components in the scores of all environments of the run, in the order of the metrics; verl requires
            the same ones of every rollout.
    """

    environment: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    components: Sequence[str] = ()

    def to_json(self) -> str:
        """The attributes as JSON."""
        return json.dumps({**vars(self), "arguments": dict(self.arguments)}, ensure_ascii=False)

    @property
    def env(self) -> EnvironmentFactory:
        """The environment; made once per process.

        Raises:
            EnvironmentSpecError: There is no such environment.
        """
        return _environment(self.environment, json.dumps(dict(self.arguments), sort_keys=True))


@dataclass(frozen=True)
class GymRow:
    """The content of a row: a task and its source."""

    source: Source
    task: Task

    @property
    def env(self) -> EnvironmentFactory:
        """The environment that plays the task."""
        return self.source.env


def verl_row(source: Source, task: Task, *, index: int, split: str) -> dict[str, Any]:
    """The row of one task, for any dataset of verl's.

    Args:
        source: Source of the task.
        task: Task of the row.
        index: Number of the row.
        split: "train" or "val"; verl does not tell agent loops whether it is validating.
    """
    payload = {**json.loads(source.to_json()), "task": task.to_row()}
    return {
        "data_source": f"gym/{task.environment or source.env.name}",
        "prompt": task.prompt or [user("")],  # if `setup` makes the opening, there is no prompt yet
        "reward_model": {"style": "rule", "ground_truth": json.dumps(task.answer, ensure_ascii=False)},
        "extra_info": {"index": index, "split": split, COLUMN: json.dumps(payload, ensure_ascii=False)},
    }


def gym_row(extra_info: Mapping[str, Any] | None) -> GymRow:
    """Read the task that a row carries.

    Raises:
        GymError: The row carries no task.
    """
    text = (extra_info or {}).get(COLUMN)
    if text is None:
        raise GymError(
            f"the row's extra_info has no {COLUMN!r}: make the data with `python -m gym_adapters.verl data ENV`"
        )
    payload = json.loads(text)
    task = Task(**payload.pop("task"))
    return GymRow(Source(**payload), task)


@cache
def _environment(name: str, arguments: str) -> EnvironmentFactory:
    return load_environment(name, **json.loads(arguments))
