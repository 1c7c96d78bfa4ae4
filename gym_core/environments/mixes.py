"""Environments by name, and several environments as one."""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gym_core.environments.environment import Environment, EnvironmentFactory
from gym_core.environments.tasks import Task
from gym_core.errors import EnvironmentSpecError


def load_environment(spec: str, /, **kwargs: Any) -> EnvironmentFactory:
    """Find the environment that a string names, for configs and the command line.

    Args:
        spec: `"package.module:name"`, where `name` is an Environment class, an object that opens environments, or a
            function that returns one of those.
        kwargs: Arguments of that function.

    Raises:
        EnvironmentSpecError: There is no such module or name, or it names something else.
    """
    module_name, _, name = spec.partition(":")
    if not module_name or not name:
        raise EnvironmentSpecError(f"an environment is named 'package.module:name', not {spec!r}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # a dependency of that module is missing
        raise EnvironmentSpecError(f"there is no module {module_name!r}, named by {spec!r}") from error
    if not hasattr(module, name):
        raise EnvironmentSpecError(f"module {module_name!r} has no {name!r}, named by {spec!r}")
    found = getattr(module, name)
    if not isinstance(found, EnvironmentFactory) and callable(found):
        found = found(**kwargs)
    elif kwargs:
        raise EnvironmentSpecError(f"{spec!r} is not a function, it takes no arguments like {next(iter(kwargs))!r}")
    if not isinstance(found, EnvironmentFactory):
        raise EnvironmentSpecError(f"{spec!r} must be an environment or a function that returns one, not {found!r}")
    return found


@dataclass(frozen=True)
class Mix:
    """Several environments as one; each task remembers which it belongs to. Made by `mix`.

    Attributes:
        environments: The environments by name.
        weights: The weights by name; None if all tasks of one environment come before those of the next.
        seed: Seed for the order in which the environments alternate.
    """

    environments: dict[str, EnvironmentFactory]
    weights: dict[str, float] | None
    seed: int = 0

    @property
    def name(self) -> str:
        """The names of its environments, joined by "+"."""
        return "+".join(self.environments)

    @property
    def tasks(self) -> Iterable[Task]:
        """The tasks of all environments; each iteration starts from the beginning."""
        return _MixedTasks(self)

    def __call__(self, task: Task, /) -> Environment:
        """Open the environment that the task names.

        Raises:
            EnvironmentSpecError: The task names none of them.
        """
        if task.environment not in self.environments:
            names = ", ".join(self.environments)
            raise EnvironmentSpecError(f"task {task.id} is for environment {task.environment!r}, the mix has {names}")
        return self.environments[task.environment](task)


def mix(
    environments: Mapping[EnvironmentFactory, float] | Sequence[EnvironmentFactory], *, seed: int = 0
) -> EnvironmentFactory:
    """Combine several environments into one.

    Args:
        environments: Environments, or a mapping from environments to weights. With weights, they alternate in these
            proportions until the first of them has no task left (as in `datasets.interleave_datasets`); without, all
            tasks of one environment come before those of the next.
        seed: Seed for the order in which the environments alternate.

    Raises:
        EnvironmentSpecError: Two environments have the same name, one is a mix itself, or a weight is not a positive
            number.
    """
    named: dict[str, EnvironmentFactory] = {}
    for env in environments:
        if not isinstance(env, EnvironmentFactory):
            raise EnvironmentSpecError(f"a mix is made of environments, not {env!r}")
        if isinstance(env, Mix):  # a task stores only one name, so it could not be dispatched twice
            raise EnvironmentSpecError(f"a mix can't contain the mix {env.name!r}; pass all environments to one mix")
        if env.name in named:
            raise EnvironmentSpecError(f"two environments of the mix are named {env.name!r}; rename one of them")
        named[env.name] = env
    if not named:
        raise EnvironmentSpecError("a mix needs at least one environment, got none")
    if not isinstance(environments, Mapping):
        return Mix(named, None, seed)
    for env, weight in environments.items():
        if not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise EnvironmentSpecError(f"the weight of {env.name!r} must be a positive number, not {weight!r}")
    return Mix(named, {env.name: float(weight) for env, weight in environments.items()}, seed)


def as_environment(env: EnvironmentFactory | Sequence[EnvironmentFactory]) -> EnvironmentFactory:
    """Make one environment of what an adapter is given: a list becomes a mix without weights.

    Raises:
        EnvironmentSpecError: It is neither an environment nor a list of environments.
    """
    if isinstance(env, EnvironmentFactory):
        return env
    if isinstance(env, Sequence) and not isinstance(env, str):
        return mix(env)
    cure = ""
    if isinstance(env, Environment):
        cure = f", which plays one episode; pass {type(env).__name__} itself"
    elif isinstance(env, str):
        cure = "; load_environment finds one by its name"
    raise EnvironmentSpecError(f"expected an environment or a list of them, not {env!r}{cure}")


def members(env: EnvironmentFactory) -> dict[str, EnvironmentFactory]:
    """The environments of a mix by name; an environment that is not a mix is its own only member."""
    return env.environments if isinstance(env, Mix) else {env.name: env}


@dataclass(frozen=True)
class _MixedTasks:
    mix: Mix

    def __iter__(self) -> Iterator[Task]:
        sources = {name: _tasks_of(env, name) for name, env in self.mix.environments.items()}
        if self.mix.weights is None:
            for source in sources.values():
                yield from source
            return
        turns = random.Random(self.mix.seed)
        names, weights = list(self.mix.weights), list(self.mix.weights.values())
        while task := next(sources[turns.choices(names, weights)[0]], None):
            yield task


def _tasks_of(env: EnvironmentFactory, name: str) -> Iterator[Task]:
    return (replace(task, environment=name) for task in env.tasks)
