"""The tasks of environments as a dataset for verl, made during training."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl

from gym_adapters.verl.compat import RLHFDataset
from gym_adapters.verl.data import component_names
from gym_adapters.verl.rows import Source, verl_row
from gym_core import GymError, Task

SCHEME = "gym://"


class GymDataset(RLHFDataset):  # type: ignore[misc]
    """Serves tasks straight from environments, also endless ones, for `data.custom_cls.{path,name}`.

    A data file is named `gym://package.module:name?skip=1000&split=val`. The query is optional: `skip` is the number of
    tasks to skip, so that validation uses other tasks than training; `split` is the split; and other names are
    arguments, if the name is a function. `data.train_max_samples` and `data.val_max_samples` set the numbers of tasks.
    Tasks are made when they are first needed, in order, so an endless generator needs `data.shuffle=false`.

    Raises:
        GymError: The name of a data file is not of that form, or its tasks are endless and no number is given.
    """

    def _download(self, use_origin_parquet: bool = False) -> None:
        """There is nothing to download."""

    def _read_files_and_tokenize(self) -> None:
        if self.config.get("filter_overlong_prompts", False):
            raise GymError(
                "data.filter_overlong_prompts can't be true with GymDataset, which makes tasks on demand; "
                "rollouts of prompts that are too long have no reward"
            )
        parts = [_Part.of(str(name)) for name in self.data_files]
        names = [name for part in parts for name in component_names(part.source, list(islice(part.tasks(), 1)))]
        components = list(dict.fromkeys(names))
        parts = [replace(part, source=replace(part.source, components=components)) for part in parts]
        self.dataframe = _Rows(parts, self.max_samples)


@dataclass(frozen=True)
class _Part:
    """The tasks of one data file."""

    source: Source
    skip: int
    split: str

    @classmethod
    def of(cls, name: str) -> _Part:
        path, _, query = name.removeprefix(SCHEME).partition("?")
        if not name.startswith(SCHEME):
            raise GymError(f"a data file of GymDataset is named 'gym://package.module:name', not {name!r}")
        options = dict(parse_qsl(query, strict_parsing=bool(query)))
        skip, split = int(options.pop("skip", "0")), options.pop("split", "train")
        return cls(Source(path, {name: _value(text) for name, text in options.items()}), skip, split)

    def tasks(self) -> Iterator[Task]:
        return islice(iter(self.source.env.tasks), self.skip, None)


class _Rows(Sequence[dict[str, Any]]):
    """The rows of some tasks, made on demand.

    Args:
        parts: Data files, which alternate, so that even a few rows come from all of them.
        count: Number of rows; below 1 for all.
    """

    def __init__(self, parts: Sequence[_Part], count: int) -> None:
        self._made: list[tuple[_Part, Task]] = []
        self._coming = _in_turn(parts)
        self._count = count if count > 0 else self._all(parts)

    def _all(self, parts: Sequence[_Part]) -> int:
        if endless := [part for part in parts if not hasattr(part.source.env.tasks, "__len__")]:
            raise GymError(
                f"environment {endless[0].source.env.name!r} does not say how many tasks it has: "
                "set data.train_max_samples and data.val_max_samples"
            )
        self._made.extend(self._coming)
        return len(self._made)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        self._made.extend(islice(self._coming, max(index + 1 - len(self._made), 0)))
        if not 0 <= index < len(self._made):
            raise IndexError(f"there are {len(self._made)} tasks, no task {index}")
        part, task = self._made[index]
        return verl_row(part.source, task, index=index, split=part.split)


def _in_turn(parts: Sequence[_Part]) -> Iterator[tuple[_Part, Task]]:
    playing = [(part, part.tasks()) for part in parts]
    while playing:
        for part, tasks in list(playing):
            if (task := next(tasks, None)) is None:
                playing.remove((part, tasks))
            else:
                yield part, task


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
