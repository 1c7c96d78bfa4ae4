"""Data: the tasks of environments as files for verl's own dataset."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from gym_adapters.verl.rows import Source, verl_row
from gym_core import EnvironmentSpecError, GymError, ScriptedPolicy, Task, open_episode
from gym_core.driving import submit


def write_data(
    sources: Sequence[Source], directory: Path, *, train: int, val: int, parquet: bool = False
) -> tuple[Path, Path]:
    """Write `train.jsonl` and `val.jsonl`, which have no task in common.

    Args:
        sources: Environments; those of one run belong in one file, since verl requires the same metrics of all rows.
        directory: Folder for the files; made if necessary.
        train: Number of tasks of each environment for training, taken from the start.
        val: Number of tasks of each environment for validation, taken after those.
        parquet: Whether to write `.parquet` files instead.

    Returns:
        The two files.

    Raises:
        EnvironmentSpecError: There is no such environment, or it has too few tasks.
    """
    if train < 1 or val < 0:
        raise GymError(f"--train must be at least 1, not {train}" if train < 1 else f"--val can't be {val}")
    tasks = [_tasks(source, train + val) for source in sources]
    components = list(
        dict.fromkeys(name for pair in zip(sources, tasks, strict=True) for name in component_names(*pair))
    )
    sources = [replace(source, components=components) for source in sources]
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    for split, part in (("train", slice(None, train)), ("val", slice(train, None))):
        chosen = [(source, task) for source, own in zip(sources, tasks, strict=True) for task in own[part]]
        rows = [verl_row(*pair, index=index, split=split) for index, pair in enumerate(chosen)]
        files.append(_write(directory / f"{split}.{'parquet' if parquet else 'jsonl'}", rows))
    return files[0], files[1]


def _tasks(source: Source, count: int) -> list[Task]:
    """The first tasks of an environment; prints its progress, since making them may take a while."""
    tasks = []
    for task in islice(source.env.tasks, count):
        tasks.append(task)
        if len(tasks) % 100 == 0 or len(tasks) == count:
            print(f"\r{source.env.name}: {len(tasks)} of {count} tasks", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if len(tasks) < count:
        raise EnvironmentSpecError(
            f"environment {source.env.name!r} has {len(tasks)} tasks, expected {count}: lower --train or --val"
        )
    return tasks


def component_names(source: Source, tasks: Sequence[Task]) -> list[str]:
    """The components in the scores of a source, as found with an empty reply to the first task of each environment."""
    first = {task.environment: task for task in reversed(tasks)}
    played = [submit(open_episode(source.env, task).run(ScriptedPolicy([""]))) for task in first.values()]
    return [*source.components, *(name for rollout in played for name in rollout.result().components)]


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        from datasets import Dataset  # takes seconds, and few need it

        Dataset.from_list(rows).to_parquet(path)
    else:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return path
