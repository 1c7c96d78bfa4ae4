"""Driving: what the adapter of a trainer needs to play environments, in addition to the names of `gym_core`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gym_core.environments import Environment, EnvironmentFactory, Task, as_environment, members
from gym_core.episodes import (
    Episode,
    Needs,
    begins_alike,
    group_key,
    needs,
    open_episode,
    run,
    submit,
    verify_conversation,
    verify_groups,
)
from gym_core.errors import EnvironmentSpecError, EpisodeError
from gym_core.policies import trained_track
from gym_core.tokens import ChatTemplate

__all__ = [
    "Needs",
    "Player",
    "argument",
    "as_environment",
    "begins_alike",
    "group_key",
    "members",
    "needs",
    "opened_episode",
    "playable",
    "run",
    "submit",
    "trained_track",
    "verify_conversation",
    "verify_groups",
]


_EVERYTHING = Needs(tools=True, user_turns=True, opening=True, group_verdicts=True)


@dataclass(frozen=True)
class Player:
    """A way of playing environments: the argument of a trainer, or a function of an adapter.

    Attributes:
        name: Name, as used in a sentence that ends "..., which is not supported by <name>".
        gives: Needs of an environment that it meets.
        parses_calls: Whether it finds tool calls by a parser of its own, not by the tokenizer's response template.
        instead: Advice for an environment that needs more.
    """

    name: str
    gives: Needs = _EVERYTHING
    parses_calls: bool = False
    instead: str = ""


def playable(
    env: EnvironmentFactory | Environment | Episode, *, by: Player, template: ChatTemplate | None = None
) -> str | None:
    """Say in one sentence why an environment can't be played; None if it can.

    Needs that are not known before `setup` has run (see `needs`) are not a problem yet; ask again with an open episode.

    Args:
        env: Environment, its factory, a mix, or an episode.
        by: Player that would play it.
        template: Chat template of the model, if turns are continued with it.
    """
    return next(_problems(env, by, template), None)


def opened_episode(env: EnvironmentFactory, task: Task | None = None) -> Episode:
    """Open an episode and close it again, to see its tools and its opening.

    Args:
        env: Environment to open.
        task: Task to open it for; by default the first.

    Raises:
        EnvironmentSpecError: There are no tasks.
        EpisodeError: The environment can't be opened.
    """
    if task is None and (task := next(iter(env.tasks), None)) is None:
        raise EnvironmentSpecError(f"environment {env.name!r} has no tasks, so its needs can't be determined")
    episode = open_episode(env, task)
    run(_look(episode))
    return episode


def argument(text: str) -> tuple[str, Any]:
    """Split an option `--arg NAME=JSON` into name and value; a value that is not JSON is text.

    Raises:
        ArgumentTypeError: There is no "=".
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=JSON, not {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


async def _look(episode: Episode) -> None:
    await episode.open()
    failure = episode.error
    await episode.close()  # a failure to close is logged, and does no harm to a run
    if failure:
        raise EpisodeError(f"environment {episode.env.name!r} can't be opened: {failure.message}")


def _problems(
    env: EnvironmentFactory | Environment | Episode, by: Player, template: ChatTemplate | None
) -> Iterator[str]:
    if not isinstance(env, Environment | Episode):
        for member in members(env).values():
            if member is not env:
                yield from _problems(member, by, template)
    name = env.env.name if isinstance(env, Episode) else env.name
    found = needs(env)
    for need, words in _WORDS.items():
        if getattr(found, need) and not getattr(by.gives, need):
            advice = f"; {by.instead}" if by.instead else ""
            yield f"environment {name!r} {words}, which is not supported by {by.name}{advice}"
    if template is not None and (problem := _template_problem(found, by, template)):
        yield f"environment {name!r} can't be played with this tokenizer: {problem}"


def _template_problem(found: Needs, by: Player, template: ChatTemplate) -> str | None:
    if found.tools and not (by.parses_calls or template.can_parse):
        return "the tokenizer has no response_template and none is known for its chat template, so no tool call is seen"
    if found.tools and template.tool_problem:
        return template.tool_problem
    return template.user_problem if found.user_turns else None


_WORDS = {
    "tools": "has tools",
    "user_turns": "answers as the user (`respond`)",
    "opening": "makes its own opening (`setup`)",
    "group_verdicts": "judges the rollouts of a task together (`verify_group`)",
}
