"""The library's own scorers, without what this adapter mends: to be audited, not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reasoning_gym.factory import DATASETS

from gym_adapters.reasoning_gym.environment import Question, ReasoningGym, reasoning_gym
from gym_adapters.reasoning_gym.scores import plain_score
from gym_core import EnvironmentFactory, Rollout, Score, Task, mix


class PlainQuestion(Question):
    """A question that the dataset's own scorer judges, after its row went through JSON."""

    async def verify(self, rollout: Rollout) -> Score:
        """The scorer's own reward; where it raises or hangs there is none."""
        return Score(await self.call_scorer(plain_score, rollout))


@dataclass(frozen=True)
class Plain(ReasoningGym):
    """One dataset with its own scorer; made by `library`."""

    def __call__(self, task: Task, /) -> PlainQuestion:
        """An environment for one episode of this task."""
        return PlainQuestion(task, cpu_s=self.cpu_s, isolation=self.isolation)


def library(
    datasets: Sequence[str] = (),
    *,
    size: int = 16,
    seed: int = 0,
    mended: bool = False,
    cpu_s: float = 5.0,
    isolation: Literal["none"] | None = None,
) -> EnvironmentFactory:
    """Datasets of reasoning-gym with the library's own scorers, whose rows went through JSON, as a trainer's do.

    Args:
        datasets: Names of the datasets; none means all of them.
        size: Number of tasks of each dataset.
        seed: Seed for the generation of the tasks.
        mended: Whether to use the scores of `reasoning_gym` instead.
        cpu_s: CPU seconds the scorer may use on one answer.
        isolation: "none" to evaluate answers in an ordinary child process. Here no grammar guards the scorers, so the
            answers must be trusted then.

    Raises:
        EnvironmentSpecError: There is no such dataset, or this machine can't isolate the scorer of one.
    """
    names = datasets or sorted(set(DATASETS) - {"composite"})
    made = [reasoning_gym(name, size=size, seed=seed, cpu_s=cpu_s, isolation=isolation) for name in names]
    return mix(made if mended else [Plain(env.name, env.dataset, env.config, cpu_s, isolation) for env in made])
