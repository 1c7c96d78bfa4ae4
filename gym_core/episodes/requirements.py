"""Requirements: what an environment needs of its player."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

from gym_core.environments import Environment, EnvironmentFactory, Task, members
from gym_core.episodes.episode import Episode
from gym_core.episodes.playing import open_episode
from gym_core.messages import user


@dataclass(frozen=True)
class Needs:
    """The needs of an environment.

    Attributes:
        tools: Whether the policy must see tools and be able to call them.
        user_turns: Whether the environment answers as the user (`respond`).
        opening: Whether it makes the opening conversation (`setup`), which the policy must see instead of the prompt.
        group_verdicts: Whether it judges the rollouts of a task together (`verify_group`).
    """

    tools: bool = False
    user_turns: bool = False
    opening: bool = False
    group_verdicts: bool = False

    def __or__(self, other: Needs) -> Needs:
        return Needs(**{name: value or getattr(other, name) for name, value in vars(self).items()})


def needs(env: EnvironmentFactory | Environment | Episode) -> Needs:
    """Find the needs of an environment without playing it; a mix needs whatever one of its environments needs.

    For a class or a factory, the environment of the first task is made, but no hook is called. So tools that `setup`
    adds, and an opening that `setup` makes although there is a prompt, are not known; an open episode knows them.
    """
    if isinstance(env, Episode):
        return needs(env.env) | Needs(opening=env.made_opening)
    if isinstance(env, Environment):
        return _needs(env, env.hooks)
    parts = members(env)
    if len(parts) > 1:
        return reduce(Needs.__or__, map(needs, parts.values()))
    task = next(iter(env.tasks), None) or Task([user("")])
    made = open_episode(env, task).env
    if isinstance(env, type) and issubclass(env, Environment):
        return _needs(made, env.hooks)  # known even if the environment can't be made
    return _needs(made, made.hooks)


def _needs(made: Environment, hooks: frozenset[str]) -> Needs:
    return Needs(
        tools=bool(made.tools),
        user_turns="respond" in hooks,
        opening="setup" in hooks and not made.task.prompt,
        group_verdicts="verify_group" in hooks,
    )
