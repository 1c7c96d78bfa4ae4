"""The tasks of an environment as the `train_dataset` of a TRL trainer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from gym_adapters.trl.messages import to_trl
from gym_core import EnvironmentFactory, EnvironmentSpecError, GymError, MissingDependencyError, Task, user
from gym_core.driving import as_environment

try:
    from datasets import Dataset, Features, Json, List, Value
except ImportError as error:
    raise MissingDependencyError("trl") from error

# `Json` keeps messages as they are: Arrow would give every message the keys of all others, as null, and chat templates
# that test `'tool_calls' in message` would fail.
_FEATURES = Features({"prompt": List(Json()), "gym_row": Value("string"), "environment": Value("string")})


def gym_dataset(
    env: EnvironmentFactory | Sequence[EnvironmentFactory],
    *,
    tasks: Iterable[Task] | None = None,
    limit: int | None = None,
) -> Dataset:
    """The tasks of an environment, for `train_dataset` and `eval_dataset`.

    Args:
        env: Environment class, factory or mix, or a list of them.
        tasks: Tasks to use; by default all of the environment's.
        limit: Number of tasks to take from the start; needed if there are endlessly many.

    Returns:
        One row per task: `prompt` (messages), `gym_row` (the task as JSON text, which `gym_reward`, `gym_environment`
        and, in the first message, `gym_rollout` read) and `environment` (its name).

    Raises:
        EnvironmentSpecError: There are no tasks.
        TaskError: A row of a JSONL file is not a task.
    """
    env = as_environment(env)
    rows = list(_rows(env, islice(env.tasks if tasks is None else tasks, limit)))
    if not rows:
        raise EnvironmentSpecError(f"environment {env.name!r} has no tasks to train on")
    return Dataset.from_list(rows, features=_FEATURES)


def row_of(prompt: Sequence[Any]) -> str | None:
    """The row inside a prompt of `gym_dataset`, for hooks that get no columns."""
    return prompt[0].get("gym_row") if isinstance(prompt[0], dict) else None


def task_of(gym_row: str | None) -> Task:
    """The task of one row.

    Raises:
        GymError: The dataset has no `gym_row` column.
    """
    if gym_row is None:
        raise GymError("the dataset has no 'gym_row' column: build it with gym_dataset(env), and keep its columns")
    return Task(**json.loads(gym_row))


def _rows(env: EnvironmentFactory, tasks: Iterable[Task]) -> Iterator[dict[str, Any]]:
    for task in tasks:
        row = json.dumps(task.to_row(), ensure_ascii=False)
        # If `setup` makes the opening, there is no prompt yet; TRL appends the result of `reset` to this one.
        first, *others = to_trl(task.prompt or [user("")])
        yield {
            "prompt": [{**first, "gym_row": row}, *others],  # rollout_func gets only the prompts
            "gym_row": row,
            "environment": task.environment or env.name,
        }
