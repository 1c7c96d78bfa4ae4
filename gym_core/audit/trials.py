"""Trials: what each probe earned in each task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from statistics import mean

from gym_core.audit.probes import GOLD_FORMS, Probe, answer_text, asked_form, gold_probes, is_same, junk_probes
from gym_core.environments import EnvironmentFactory, Rollout, Task
from gym_core.episodes import needs, open_episode
from gym_core.policies import ScriptedPolicy

_FORM_TASKS = 3
"""Number of tasks played to find the form in which answers are accepted."""


@dataclass(frozen=True)
class Trial:
    """One probe in one task.

    Attributes:
        probe: Replies that were given.
        rollout: Rollout of these replies.
        again: Second rollout of the same replies; None where they were given only once.
    """

    probe: Probe
    rollout: Rollout
    again: Rollout | None = None


@dataclass(frozen=True)
class Reading:
    """How to answer an environment.

    Attributes:
        form: Form of an answer, such as "#### {}".
        has_gold: Whether gold replies are known.
    """

    form: str
    has_gold: bool


async def read(env: EnvironmentFactory, tasks: Sequence[Task]) -> Reading:
    """Find the form in which gold answers earn most; where none earns anything, it is the form the prompts ask for."""
    asked = asked_form(tasks)
    if any("gold" in task.info for task in tasks):
        return Reading(asked, has_gold=True)
    answered = [task for task in tasks if task.answer is not None]
    if not answered:
        return Reading(asked, has_gold=False)
    earned = {form: await _earned(env, answered[:_FORM_TASKS], form) for form in (asked, *GOLD_FORMS)}
    best = max(earned, key=earned.__getitem__)
    # An answer that is not text, or a state that tools should leave behind, may not be the text of a reply.
    is_reply = _is_one_turn(env, answered[0]) and isinstance(answered[0].answer, str | int | float)
    return Reading(best, has_gold=earned[best] > 0 or is_reply)


async def _earned(env: EnvironmentFactory, tasks: Sequence[Task], form: str) -> float:
    rollouts = [await _play(env, task, next(gold_probes(task, form))) for task in tasks]
    return mean(rollout.reward or 0.0 for rollout in rollouts)


def _is_one_turn(env: EnvironmentFactory, task: Task) -> bool:
    found = needs(open_episode(env, task))
    return not (found.tools or found.user_turns)


async def play_all(
    env: EnvironmentFactory, tasks: Sequence[Task], reading: Reading, *, policies: Sequence[str] | None = None
) -> AsyncIterator[list[Trial]]:
    """Play the probes in every task, one task after another.

    Args:
        env: Environment of the tasks.
        tasks: Tasks to play.
        reading: Form of the answers.
        policies: Names of the policies to play; None plays all.
    """
    answers: list[str] = []
    for answer in filter(None, map(answer_text, tasks)):
        if not any(is_same(answer, seen) for seen in answers):
            answers.append(answer)
    for task in tasks:
        probes = list(junk_probes(task, reading.form, answers))
        if reading.has_gold:
            probes = [*gold_probes(task, reading.form), *probes]
        chosen = [probe for probe in probes if policies is None or probe.policy in policies]
        yield await asyncio.gather(*(_try(env, task, probe) for probe in chosen))


async def _try(env: EnvironmentFactory, task: Task, probe: Probe) -> Trial:
    rollout = await _play(env, task, probe)
    is_repeated = probe.policy in ("gold", "empty", "random text")
    return Trial(probe, rollout, await _play(env, task, probe) if is_repeated else None)


async def _play(env: EnvironmentFactory, task: Task, probe: Probe) -> Rollout:
    replies = repeat(probe.replies[0]) if probe.kind == "junk" else probe.replies
    return await open_episode(env, task).run(ScriptedPolicy(replies))
