"""The audit: does the reward mean what its author thinks? It needs no model."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import mean, median
from typing import Any

from gym_core.audit.findings import Finding, Thresholds, by_policy, find, reward_of
from gym_core.audit.leaks import find_leaks
from gym_core.audit.remade import find_changed
from gym_core.audit.trials import Trial, play_all, read
from gym_core.environments import EnvironmentFactory, Rollout
from gym_core.errors import GymError

__all__ = ["Audit", "Finding", "PolicyRow", "Thresholds", "audit"]


_DEFAULT = Thresholds()


@dataclass(frozen=True)
class PolicyRow:
    """What one policy earned: the mean and the greatest reward, and how many rollouts that is of."""

    policy: str
    mean: float
    best: float
    rollouts: int


@dataclass(frozen=True)
class Audit:
    """What was found in one environment.

    Attributes:
        environment: Its name.
        tasks: How many were played.
        rollouts: How many that made.
        verdict_ms: Wall time of a rollout, its verdict included, while those of a task are played at once; the median
            of the tasks.
        form: In which answers were given.
        policies: Mean rewards, gold first.
        findings: Defects first.
    """

    environment: str
    tasks: int
    rollouts: int
    verdict_ms: float
    form: str
    policies: tuple[PolicyRow, ...]
    findings: tuple[Finding, ...]

    @property
    def defects(self) -> tuple[Finding, ...]:
        """The findings that are beyond their threshold."""
        return tuple(finding for finding in self.findings if finding.is_defect)


async def audit(
    env: EnvironmentFactory,
    *,
    limit: int = 16,
    thresholds: Thresholds = _DEFAULT,
    rollouts: Sequence[Rollout] = (),
    made_by: tuple[str, dict[str, Any]] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Audit:
    """Play policies that know nothing, and the gold answer in several spellings, and judge the rewards.

    A probe calls no tool: it is the reply of every turn. Gold replies are `task.info["gold"]`, a list of assistant
    texts or messages, where there is one; else `task.answer` in the usual form that earns most.

    Args:
        env: What is audited, no mix.
        limit: How many of its tasks are played.
        thresholds: What makes a finding a defect.
        rollouts: Of a model, in which leaks are searched too.
        made_by: The name and the arguments `load_environment` made it by, to make its tasks again; None not to.
        progress: Told in a few words how far it is.
    """
    try:
        tasks = list(islice(env.tasks, limit))
    except GymError as error:
        return _without_tasks(env, f"the tasks can't be made: {error}")
    if not tasks:
        return _without_tasks(env, "there are no tasks, expected one or more")
    reading = await read(env, tasks)
    trials, verdict_ms = await _timed(play_all(env, tasks, reading), len(tasks), env.name, progress)
    shown = [*(trial.rollout for trial in trials), *rollouts]
    findings = [*find(trials, tasks, thresholds), *find_leaks(shown, thresholds)]
    if made_by:
        findings += await find_changed(*made_by, env.name, tasks)
    findings.sort(key=lambda finding: not finding.is_defect)
    policies = tuple(_rows(trials))
    return Audit(env.name, len(tasks), _count(trials), verdict_ms, reading.form, policies, tuple(findings))


async def _timed(
    playing: AsyncIterator[list[Trial]], tasks: int, name: str, progress: Callable[[str], None]
) -> tuple[list[Trial], float]:
    """All trials, and the milliseconds of a rollout: the median of the tasks, since the first may start workers."""
    trials: list[Trial] = []
    rollout_ms: list[float] = []
    started_s = time.monotonic()
    async for played in playing:
        trials += played
        rollout_ms.append(1000 * (time.monotonic() - started_s) / _count(played))
        started_s = time.monotonic()
        progress(f"{name}: task {len(rollout_ms)} of {tasks}")
    return trials, median(rollout_ms)


def _without_tasks(env: EnvironmentFactory, sentence: str) -> Audit:
    return Audit(env.name, 0, 0, 0.0, "", (), (Finding("tasks", True, sentence),))


def _count(trials: Sequence[Trial]) -> int:
    return sum(1 + (trial.again is not None) for trial in trials)


def _rows(trials: Sequence[Trial]) -> list[PolicyRow]:
    return [
        PolicyRow(policy, mean(map(reward_of, played)), max(map(reward_of, played)), len(played))
        for policy, played in by_policy(trials).items()
    ]
