"""Audits: the probes are played, their rewards judged, and what was found is kept."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from statistics import mean, median
from typing import Any

from gym_core.audit.contract import find_contract
from gym_core.audit.findings import Finding, Thresholds, by_policy, find, reward_of
from gym_core.audit.leaks import find_leaks
from gym_core.audit.probes import QUICK
from gym_core.audit.remade import find_changed
from gym_core.audit.trials import Trial, play_all, read
from gym_core.environments import EnvironmentFactory, Rollout, Task
from gym_core.errors import GymError

_DEFAULT = Thresholds()


def _say_nothing(_: str) -> None: ...


@dataclass(frozen=True)
class PolicyRow:
    """The rewards of one policy: mean and best reward, and the number of rollouts."""

    policy: str
    mean: float
    best: float
    rollouts: int


@dataclass(frozen=True)
class Audit:
    """The findings in one environment.

    Attributes:
        environment: Name of the environment.
        tasks: Number of tasks played.
        rollouts: Number of rollouts played.
        verdict_ms: Wall time per rollout in milliseconds, verdict included: the median over the tasks. The rollouts of
            a task are played at the same time.
        form: Form in which answers were given, such as `#### {}`.
        policies: Rewards of each policy, gold first.
        findings: Findings, defects first.
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
        """The findings beyond their threshold."""
        return tuple(finding for finding in self.findings if finding.is_defect)


async def check_environment(
    env: EnvironmentFactory, *, limit: int = 8, progress: Callable[[str], None] = _say_nothing
) -> Audit:
    """Run the quick part of an audit: the contract, gold and junk replies, and whether a score is stable.

    Args:
        env: Environment to check; not a mix.
        limit: Number of tasks to play.
        progress: Callback that is told in a few words how far the check is.
    """
    checked, _, _ = await _play(env, limit, policies=QUICK, thresholds=_DEFAULT, progress=progress)
    return checked


async def audit_environment(
    env: EnvironmentFactory,
    *,
    limit: int = 16,
    thresholds: Thresholds = _DEFAULT,
    rollouts: Sequence[Rollout] = (),
    made_by: tuple[str, dict[str, Any]] | None = None,
    progress: Callable[[str], None] = _say_nothing,
) -> Audit:
    """Play policies that know nothing, and the gold answer in several spellings, and judge their rewards.

    A probe calls no tools: it gives the same reply at every turn. The gold replies are `task.info["gold"]`, a list of
    assistant texts or messages, where the task has one; otherwise `task.answer`, in the usual form that earns most.

    Args:
        env: Environment to audit; not a mix.
        limit: Number of tasks to play.
        thresholds: Limits beyond which a finding is a defect.
        rollouts: Rollouts of a model, which are searched for leaks as well.
        made_by: Name and arguments with which `load_environment` made the environment, to make its tasks again in
            another process; None skips that.
        progress: Callback that is told in a few words how far the audit is.
    """
    checked, tasks, trials = await _play(env, limit, policies=None, thresholds=thresholds, progress=progress)
    if not tasks:
        return checked
    shown = [*(trial.rollout for trial in trials), *rollouts]
    findings = [*checked.findings, *find_leaks(shown, thresholds)]
    if made_by:
        findings += await find_changed(*made_by, env.name, tasks)
    return replace(checked, findings=_defects_first(findings))


async def _play(
    env: EnvironmentFactory,
    limit: int,
    *,
    policies: Sequence[str] | None,
    thresholds: Thresholds,
    progress: Callable[[str], None],
) -> tuple[Audit, list[Task], list[Trial]]:
    """The findings of the probes, with the tasks and the trials; both are empty if there are no tasks."""
    try:
        tasks = list(islice(env.tasks, limit))
    except GymError as error:
        return _without_tasks(env, f"the tasks can't be made: {error}"), [], []
    if not tasks:
        return _without_tasks(env, "there are no tasks, expected one or more"), [], []
    reading = await read(env, tasks)
    playing = play_all(env, tasks, reading, policies=policies)
    trials, verdict_ms = await _timed(playing, len(tasks), env.name, progress)
    findings = [*find_contract(env, tasks, trials), *find(trials, tasks, thresholds)]
    rows, count = tuple(_rows(trials)), _count(trials)
    found = Audit(env.name, len(tasks), count, verdict_ms, reading.form, rows, _defects_first(findings))
    return found, tasks, trials


async def _timed(
    playing: AsyncIterator[list[Trial]], tasks: int, name: str, progress: Callable[[str], None]
) -> tuple[list[Trial], float]:
    """All trials, and the milliseconds per rollout: the median over the tasks, since the first may start workers."""
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


def _defects_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: not finding.is_defect))


def _count(trials: Sequence[Trial]) -> int:
    return sum(1 + (trial.again is not None) for trial in trials)


def _rows(trials: Sequence[Trial]) -> list[PolicyRow]:
    return [
        PolicyRow(policy, mean(map(reward_of, played)), max(map(reward_of, played)), len(played))
        for policy, played in by_policy(trials).items()
    ]
