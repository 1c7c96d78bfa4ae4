"""The environment: one question of reasoning-gym, and the factory of one of its datasets."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

from reasoning_gym.factory import DATASETS, create_dataset
from reasoning_gym.utils import SYSTEM_PROMPTS

from gym_adapters.reasoning_gym.grammar import EVALUATED
from gym_adapters.reasoning_gym.rows import from_json, to_json
from gym_adapters.reasoning_gym.scores import score
from gym_core import Environment, Rollout, Score, Task, system, user
from gym_core.errors import EnvironmentSpecError, TaskError, WorkerHungError
from gym_core.processes import isolation_problem, shared_sandbox, shared_workers

ISOLATED = ("gym_adapters.reasoning_gym.scores", "gym_adapters.reasoning_gym.warm")


class Question(Environment):
    """One question, answered in one message between `<answer>` tags.

    Args:
        task: Task of `ReasoningGym`, or its row read back from JSON.
        cpu_s: CPU seconds that the scorer may use.
        isolation: "none" if `reasoning_gym` was asked for it.
    """

    def __init__(self, task: Task, *, cpu_s: float, isolation: Literal["none"] | None = None) -> None:
        super().__init__(task)
        self._cpu_s = cpu_s
        self._isolation = isolation

    async def verify(self, rollout: Rollout) -> Score:
        """Judge the last answer by the dataset's own scorer and the stored entry, in a child process.

        The model is to blame, and earns 0.0, for a reply without the tags, an answer that is code or hangs the scorer,
        and an answer on which the scorer raises although it can score the right one. If the scorer evaluates answers,
        an answer that is not an expression earns as much as an empty one. A lost child leaves the rollout without a
        reward.

        Returns:
            The reward, with these components of 0.0 or 1.0: `format` (there was an answer), `unreadable` (the scorer
            can't read it, or must not) and `hung` (it used up the scorer's CPU seconds or memory, or would have).
        """
        try:
            parts = await self.call_scorer(score, rollout)
        except WorkerHungError:
            return Score(0.0, {"format": 1.0, "unreadable": 0.0, "hung": 1.0})
        return Score(parts.pop("reward"), parts)

    async def call_scorer(self, function: Callable[[str, dict[str, Any]], Any], rollout: Rollout) -> Any:
        """Score the last reply by a function of `scores`, isolated if it evaluates the reply."""
        isolate = self.task.info["dataset"] in EVALUATED and self._isolation != "none"
        call = shared_sandbox(ISOLATED).call if isolate else shared_workers().call
        return await call(function, rollout.last_reply, self.task.info, cpu_s=self._cpu_s)


@dataclass(frozen=True)
class ReasoningGym:
    """One dataset of reasoning-gym; made by `reasoning_gym`.

    Attributes:
        name: Name in the metrics; use `dataclasses.replace(env, name=...)` if two members of a mix have the same
            dataset.
        dataset: Name of the dataset in reasoning-gym.
        config: Config of the dataset as JSON text, size and seed included.
        cpu_s: CPU seconds that the scorer may use per answer.
        isolation: "none" if evaluated answers are not isolated.
    """

    name: str
    dataset: str
    config: str
    cpu_s: float
    isolation: Literal["none"] | None = None

    @cached_property
    def tasks(self) -> Iterable[Task]:
        """The tasks, as many as the size; generated on first use, and then kept by this process."""
        return _Tasks(self.dataset, json.loads(self.config))

    def __call__(self, task: Task, /) -> Question:
        """Make an environment for one episode of this task."""
        return Question(task, cpu_s=self.cpu_s, isolation=self.isolation)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.dataset, self.config, self.cpu_s, self.isolation)  # without the tasks


def reasoning_gym(
    dataset: str,
    *,
    size: int = 1000,
    seed: int = 0,
    cpu_s: float = 5.0,
    isolation: Literal["none"] | None = None,
    **config: Any,
) -> ReasoningGym:
    """Make an environment of one of reasoning-gym's datasets, such as "chain_sum".

    Args:
        dataset: Name of the dataset.
        size: Number of tasks.
        seed: Seed for the generation of the tasks.
        cpu_s: CPU seconds that the scorer may use per answer.
        isolation: "none" to score in an ordinary child process, even if the scorer evaluates answers as code. Then only
            a grammar stands between the model's text and your files. By default such a scorer is isolated.
        config: Settings of the dataset, such as `min_terms`.

    Raises:
        EnvironmentSpecError: There is no such dataset or setting, the dataset rejects a value, or its scorer evaluates
            answers and this machine can't isolate it.
    """
    names = [name for name in DATASETS if name != "composite"]  # `gym_core.mix` is our composite
    if dataset not in names:
        raise EnvironmentSpecError(f"reasoning-gym has no dataset {dataset!r}{_suggestion(dataset, names)}")
    settings = [setting.name for setting in fields(DATASETS[dataset][1])]
    for key in config:
        if key not in settings:
            raise EnvironmentSpecError(f"{dataset!r} has no setting {key!r}{_suggestion(key, settings)}")
    config = {**config, "size": size, "seed": seed}
    try:
        create_dataset(dataset, **config)  # it validates
        text = json.dumps(to_json(config), sort_keys=True)
    except (AssertionError, TaskError, TypeError, ValueError) as error:
        raise EnvironmentSpecError(f"{dataset!r} does not take the config {config!r}: {error}") from error
    _check_isolation(dataset, isolation)
    return ReasoningGym(dataset, dataset, text, cpu_s, isolation)


def _check_isolation(dataset: str, isolation: str | None) -> None:
    if isolation not in (None, "none"):
        raise EnvironmentSpecError(f"isolation must be None or 'none', not {isolation!r}")
    if dataset in EVALUATED and isolation is None and (problem := _isolation_problem()):
        raise EnvironmentSpecError(
            f"{dataset!r} evaluates what a model writes, which must be isolated, and can't be here ({problem}); "
            "isolation='none' trusts a grammar to keep code out"
        )


@functools.cache
def _isolation_problem() -> str | None:
    return isolation_problem("namespaces")


def _suggestion(word: str, possibilities: list[str]) -> str:
    matches = difflib.get_close_matches(word, possibilities) or sorted(possibilities)
    return f"; expected {', '.join(matches[:8])}{', ...' if len(matches) > 8 else ''}"


class _Tasks:
    """The tasks of a dataset; each is generated once, since some differ between two processes (string hashes)."""

    def __init__(self, dataset: str, config: dict[str, Any]) -> None:
        self._name = dataset
        self._config = config
        self._dataset = create_dataset(dataset, **from_json(config))
        self._tasks: dict[int, Task] = {}

    def __iter__(self) -> Iterator[Task]:
        for index in range(len(self._dataset)):
            yield self._tasks.get(index) or self._tasks.setdefault(index, self._task(index))

    def _task(self, index: int) -> Task:
        entry = self._dataset[index]
        return Task(
            [system(SYSTEM_PROMPTS["default"]), user(entry["question"])],
            answer=entry["answer"],
            info={"dataset": self._name, "config": self._config, "entry": to_json(entry)},
            id=f"{self._name}-{self._config['seed']}-{index}",
        )
