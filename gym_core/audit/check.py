"""Checks of an environment that need no model: its contract, its tools, and whether its verifier can tell."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice
from typing import Any

from gym_core.environments import Environment, EnvironmentFactory, Rollout, Task
from gym_core.episodes import open_episode
from gym_core.messages import Message, text
from gym_core.policies import ScriptedPolicy

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""What the chat completions API of OpenAI accepts for a function's name."""

GOLD_FORMS = ("{}", "#### {}", "\\boxed{{{}}}", "<answer>{}</answer>", "The answer is {}.", "Answer: {}")
"""How an answer is asked for, usually."""


async def check_environment(env: EnvironmentFactory, *, limit: int = 8) -> list[str]:
    """What is wrong with an environment, a sentence each; nothing found is an empty list.

    The first tasks are opened, verified and closed. The verifier must give the same score twice, and the gold reply
    must score above an empty reply, the repeated prompt, and a reply that lists every answer. The gold reply is
    `task.info["gold"]`, a list of assistant texts or messages, where there is one; else, for an environment of one
    turn, `task.answer` in one of the usual forms.

    Args:
        env: What is checked.
        limit: How many tasks are played.
    """
    tasks = list(islice(env.tasks, limit))
    problems = list(_task_problems(env, tasks))
    for task in tasks:
        problems += [f"task {task.id}: {problem}" async for problem in _problems(env, task, tasks)]
    return problems


def _task_problems(env: EnvironmentFactory, tasks: Sequence[Task]) -> Iterator[str]:
    if not tasks:
        yield f"environment {env.name!r} has no tasks"
    if tasks and next(iter(env.tasks), None) != tasks[0]:
        yield "tasks gives other tasks when it is iterated again, expected the same ones"
    seen: set[str] = set()
    for task in tasks:
        if task.id in seen:
            yield f"task {task.id}: its id is not unique"
        seen.add(task.id)
        if not _survives_json(task):
            yield f"task {task.id}: it changes on its way through JSON; use lists, not tuples, and string keys"


def _survives_json(task: Task) -> bool:
    try:
        return Task(**json.loads(json.dumps(task.to_row()))) == task
    except (TypeError, ValueError):
        return False


async def _problems(env: EnvironmentFactory, task: Task, tasks: Sequence[Task]) -> AsyncIterator[str]:
    empty = await _played(env, task, [""])
    if empty.error:
        yield f"it broke on an empty reply, in {empty.error.kind}: {empty.error.message}"
        return
    for schema in empty.tools:
        if not _TOOL_NAME.fullmatch(schema["function"]["name"]):
            yield f"tool {schema['function']['name']!r} needs a name of letters, digits, '_' and '-', 64 at most"
    junk = {
        "an empty reply": empty,
        "the repeated prompt": await _played(env, task, ["\n".join(map(text, empty.task.prompt))]),
        "a list of all answers": await _played(env, task, [_all_answers(task, tasks)]),
    }
    for name, rollout in junk.items():
        if rollout.error:
            yield f"it broke on {name}, in {rollout.error.kind}: {rollout.error.message}"
    again = await _played(env, task, [""])
    if (again.reward, again.components) != (empty.reward, empty.components):
        yield f"verify gave {empty.reward} and then {again.reward} for the same reply, expected the same score"
    gold = await _gold_reward(env, task)
    if gold is None and "gold" in task.info:
        yield "its gold reply has no reward"
    for name, rollout in junk.items():
        if gold is not None and rollout.reward is not None and rollout.reward >= gold:
            yield f"{name} scores {rollout.reward}, as much as the gold reply ({gold})"


async def _played(env: EnvironmentFactory, task: Task, replies: Sequence[str | Message]) -> Rollout:
    return await open_episode(env, task).run(ScriptedPolicy(replies))


async def _gold_reward(env: EnvironmentFactory, task: Task) -> float | None:
    """The reward of the best gold reply; None where none is known."""
    rewards = [(await _played(env, task, replies)).reward for replies in _gold_replies(env, task)]
    return max((reward for reward in rewards if reward is not None), default=None)


def _gold_replies(env: EnvironmentFactory, task: Task) -> Iterator[Sequence[str | Message]]:
    if "gold" in task.info:
        yield task.info["gold"]
        return
    environment = env(task)
    one_turn = not environment.tools and type(environment).respond is Environment.respond
    if one_turn and task.answer is not None:
        yield from ([form.format(as_text(task.answer))] for form in GOLD_FORMS)


def _all_answers(task: Task, tasks: Sequence[Task]) -> str:
    """Every answer of the sample in every form; this task's own are never the last."""
    answers = [task.answer, *(other.answer for other in tasks if other.answer != task.answer)]
    return "\n".join(form.format(as_text(answer)) for form in GOLD_FORMS for answer in answers)


def as_text(answer: Any) -> str:
    """The answer as a reply would spell it: JSON, unless it is text already."""
    return answer if isinstance(answer, str) else json.dumps(answer, default=str)
