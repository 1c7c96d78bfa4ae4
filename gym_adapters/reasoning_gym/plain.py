"""The library's own scorers, without what this adapter mends: to be audited, not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reasoning_gym.factory import DATASETS

from gym_adapters.reasoning_gym.environment import Question, ReasoningGym, reasoning_gym
from gym_adapters.reasoning_gym.scores import plain_score
from gym_core import EnvironmentFactory, Rollout, Score, Task, mix
from gym_core.processes import shared_workers


class PlainQuestion(Question):
    """A question that the dataset's own scorer judges, after its row went through JSON."""

    async def verify(self, rollout: Rollout) -> Score:
        """The scorer's own reward; where it raises or hangs there is none."""
        return Score(await shared_workers().call(plain_score, rollout.last_reply, self.task.info, cpu_s=self._cpu_s))


@dataclass(frozen=True)
class Plain(ReasoningGym):
    """One dataset with its own scorer; made by `library`."""

    def __call__(self, task: Task, /) -> PlainQuestion:
        """An environment for one episode of this task."""
        return PlainQuestion(task, cpu_s=self.cpu_s)

    def __reduce__(self) -> tuple[Any, ...]:
        return Plain, (self.name, self.dataset, self.config, self.cpu_s)


def library(
    datasets: Sequence[str] = (), *, size: int = 16, seed: int = 0, mended: bool = False, cpu_s: float = 5.0
) -> EnvironmentFactory:
    """Datasets of reasoning-gym with the library's own scorers, whose rows went through JSON, as a trainer's do.

    Args:
        datasets: Their names; none is all of them.
        size: The number of tasks of each.
        seed: Of their generation.
        mended: With the scores of `reasoning_gym` instead.
        cpu_s: CPU seconds the scorer may use on one answer.

    Raises:
        EnvironmentSpecError: There is no such dataset.
    """
    names = datasets or sorted(set(DATASETS) - {"composite"})
    made = [reasoning_gym(name, size=size, seed=seed, cpu_s=cpu_s) for name in names]
    return mix(made if mended else [Plain(env.name, env.dataset, env.config, env.cpu_s) for env in made])
