"""The library's own scorers without the adapter's corrections: for audits, not for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reasoning_gym.factory import DATASETS

from gym_adapters.reasoning_gym.environment import Question, ReasoningGym, reasoning_gym
from gym_adapters.reasoning_gym.scores import plain_score
from gym_core import EnvironmentFactory, Rollout, Score, Task, mix


class PlainQuestion(Question):
    """A question judged by the dataset's own scorer, after its row went through JSON."""

    async def verify(self, rollout: Rollout) -> Score:
        """The scorer's own reward; there is none if the scorer raises or hangs."""
        return Score(await self.call_scorer(plain_score, rollout))


@dataclass(frozen=True)
class Plain(ReasoningGym):
    """One dataset with its own scorer; made by `library`."""

    def __call__(self, task: Task, /) -> PlainQuestion:
        """Make an environment for one episode of this task."""
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
    """Make a mix of datasets with the library's own scorers, on rows that went through JSON, as a trainer's do.

    Args:
        datasets: Names of the datasets; none means all of them.
        size: Number of tasks of each dataset.
        seed: Seed for the generation of the tasks.
        mended: Whether to use the scores of `reasoning_gym` instead.
        cpu_s: CPU seconds that the scorer may use per answer.
        isolation: "none" to evaluate answers in an ordinary child process. No grammar guards the scorers here, so then
            the answers must be trusted.

    Raises:
        EnvironmentSpecError: There is no such dataset, or this machine can't isolate its scorer.
    """
    names = datasets or sorted(set(DATASETS) - {"composite"})
    made = [reasoning_gym(name, size=size, seed=seed, cpu_s=cpu_s, isolation=isolation) for name in names]
    return mix(made if mended else [Plain(env.name, env.dataset, env.config, cpu_s, isolation) for env in made])
