"""Environments with tools as the `environment_factory` of a TRL trainer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from gym_adapters.trl.dataset import task_of
from gym_core import (
    EnvironmentFactory,
    Episode,
    EpisodeError,
    GymError,
    ToolSchema,
    open_episode,
    text,
    tool_call,
    user,
)
from gym_core.driving import Needs, Player, as_environment, members, opened_episode, playable, run

ENVIRONMENT_FACTORY = Player(
    "environment_factory",
    gives=Needs(tools=True, opening=True, group_verdicts=True),  # an opening where TRL can show it, see `observation`
    instead="pass rollout_func=gym_rollout(env)",
)
"""The player behind `gym_environment`."""


def gym_environment(
    env: EnvironmentFactory | Sequence[EnvironmentFactory],
) -> Callable[[], Any] | dict[str, Callable[[], Any]]:
    """The tools of an environment, for `GRPOTrainer(environment_factory=gym_environment(env))`.

    Use it together with `gym_dataset(env)`, which carries the tasks, and `gym_reward(env)`, which verifies and closes
    the episodes played here. If an environment breaks, its reward is None, so the model does not learn from it.

    Args:
        env: Environment class, factory or mix, or a list of them; picklable for AsyncGRPOTrainer.

    Returns:
        A factory of environments; for a mix, a dict of them by the names in the dataset's `environment` column.
    """
    env = as_environment(env)
    factories: dict[str, Callable[[], Any]] = {
        name: GymEnvironmentFactory(member) for name, member in members(env).items()
    }
    return factories.get(env.name, factories)


class GymEnvironmentFactory:
    """Makes the objects that TRL calls environments, all of one class, as TRL requires.

    The class is built on the first call, in the process that plays: a spawned worker receives only the environment.
    """

    def __init__(self, env: EnvironmentFactory) -> None:
        self.env = env
        self._playground: type[Playground] | None = None

    def __call__(self) -> Any:
        if self._playground is None:
            self._playground = _playground(self.env)
        return self._playground()

    def __reduce__(self) -> tuple[Any, ...]:
        return GymEnvironmentFactory, (self.env,)


class GymTool(dict[str, Any]):
    """A tool schema that is also the callable that runs it.

    TRL passes its tools to the chat template, which takes a dict as the exact schema (it would inspect a function and
    lose nested schemas, trl#4859), and calls them by `__name__`, which may be any string here.
    """

    def __init__(self, schema: ToolSchema, call: Callable[[str, str], str]) -> None:
        super().__init__(schema)
        self.__name__ = schema["function"]["name"]
        self._call = call

    def __call__(self, /, **arguments: Any) -> str:
        return self._call(self.__name__, json.dumps(arguments, ensure_ascii=False))


class Playground:
    """One environment as TRL sees it: reset for every rollout, its tools called one by one.

    TRL finds tools by listing the plain functions of the class; instance attributes shadow them with the real tools.
    """

    _env: EnvironmentFactory
    _schemas: tuple[ToolSchema, ...]

    def __init__(self) -> None:
        self.episode: Episode | None = None
        self._calls = 0
        for position, schema in enumerate(self._schemas):
            setattr(self, _attribute(position), GymTool(schema, self._run))

    def reset(self, gym_row: str | None = None, **_: Any) -> str | None:
        """Open the episode of a dataset row; the policy is shown what `setup` adds to the prompt."""
        if self.episode is not None:
            run(self.episode.close())  # the rollout before was never verified
        self.episode = open_episode(self._env, task_of(gym_row))
        return run(self._open(self.episode))

    async def _open(self, episode: Episode) -> str | None:
        await episode.open()
        if episode.done:
            return None
        if episode.tools != list(self._schemas):
            problem = "its tools differ from those of the first task, and TRL shows all prompts the same tools"
            episode.fail("setup", EpisodeError(f"{problem}; use gym_rollout"))
            return None
        try:
            return observation(episode) or None
        except EpisodeError as error:
            episode.fail("setup", error)
            return None

    def _run(self, name: str, arguments: str) -> str:
        if self.episode is None:
            raise EpisodeError("a tool was called before reset")
        self._calls += 1
        return text(run(self.episode.call(tool_call(name, arguments, id=f"call_{self._calls}"))))


def _playground(env: EnvironmentFactory) -> type[Playground]:
    first = opened_episode(env)
    if problem := playable(first, by=ENVIRONMENT_FACTORY):
        raise GymError(problem)
    schemas = tuple(first.tools)
    placeholders = {_attribute(position): _placeholder for position, _ in enumerate(schemas)}
    return type(f"Gym{env.name}", (Playground,), {"_env": env, "_schemas": schemas, **placeholders})


def _attribute(position: int) -> str:
    """The name of an attribute; TRL sorts tools by it, so it keeps them in order."""
    return f"tool_{position:03}"


def _placeholder(self: Playground) -> None:
    raise NotImplementedError


def observation(episode: Episode) -> str:
    """The text by which the opening extends the dataset's prompt; TRL appends it to the last message.

    Raises:
        EpisodeError: It has more.
    """
    *first, last = episode.env.task.prompt or [user("")]
    *opened, end = episode.opening
    if opened == first and end["role"] == last["role"] and text(end).startswith(text(last)):
        return text(end).removeprefix(text(last))
    problem = "setup returned an opening that is more than the task's prompt with an end to its last message"
    raise EpisodeError(f"{problem}, which TRL can't show; put it into the prompt or use gym_rollout")
