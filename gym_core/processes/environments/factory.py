"""The factory: an environment whose episodes live in child processes."""

from __future__ import annotations

import pickle
import socket
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from gym_core.environments import Environment, EnvironmentFactory, Mix, Task, as_environment, members
from gym_core.errors import EnvironmentSpecError
from gym_core.processes.environments.launcher import Launcher
from gym_core.processes.environments.main_module import check_not_importing, find_main, needs_main
from gym_core.processes.environments.pool import Pool
from gym_core.processes.environments.proxy import RemoteEnvironment


class Home:
    """The children of an environment. Its copies, even pickled and forked ones, share those of their process."""

    def __init__(
        self, env: EnvironmentFactory, count: int, episodes: int, variables: tuple[str, ...], key: str
    ) -> None:
        self._arguments = env, count, episodes, variables, key
        self._pool: Pool | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Home, self._arguments

    @property
    def pool(self) -> Pool:
        """The children of this process.

        Raises:
            EnvironmentSpecError: This process is itself a child that is importing the main module of its parent.
        """
        check_not_importing()
        if self._pool is None:
            env, count, episodes, variables, key = self._arguments
            self._pool = _pools.get(key) or _pools.setdefault(key, Pool(Launcher(env, variables), count, episodes))
        return self._pool


@dataclass(frozen=True, eq=False)
class InProcesses:
    """An environment whose episodes live in child processes; made by `in_processes`."""

    env: EnvironmentFactory
    home: Home

    @property
    def name(self) -> str:
        """The name of the environment."""
        return self.env.name

    @property
    def tasks(self) -> Iterable[Task]:
        """The tasks of the environment, made in this process."""
        return self.env.tasks

    def __call__(self, task: Task, /) -> Environment:
        """The proxy of an environment; it takes its place in a child in `setup`."""
        return RemoteEnvironment(self.env(task), self.env.name, self.home.pool)


def in_processes(
    env: EnvironmentFactory | Sequence[EnvironmentFactory],
    count: int = 4,
    *,
    episodes: int = 1,
    variables: Sequence[str] = (),
) -> EnvironmentFactory:
    """Move the episodes of an environment to child processes, where they may block, hang or die.

    `setup`, tools, `respond`, `verify`, `verify_group` and `close` run in a child. The constructor also runs here, for
    what must be known before `setup`. The sync hooks of an episode run in one thread, which is the main thread of its
    child unless `episodes` is greater than 1. A hook that does not stop when its time is up is killed with its child. A
    child that dies costs only its own episodes, which then have no reward, and is replaced.

    Children are started on demand, and end with the environment or with this process. Episodes without a place wait in
    `setup`. Each process that plays, such as a rank, has its own children.

    Args:
        env: Environment class, factory or mix, or a list of them; picklable and trusted.
        count: Most children at the same time.
        episodes: Most episodes that live in one child at the same time.
        variables: Names of environment variables that the children get in addition to the usual ones like `PATH`, such
            as API keys.

    Raises:
        EnvironmentSpecError: Child processes can't find the environment, or a number is not positive.
    """
    env = as_environment(env)
    for name, value in (("count", count), ("episodes", episodes)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise EnvironmentSpecError(f"{name!r} must be a positive whole number, not {value!r}")
    if any(isinstance(member, InProcesses) for member in members(env).values()):
        raise EnvironmentSpecError(f"environment {env.name!r} lives in child processes already")
    _check_findable(env)
    home = Home(env, count, episodes, tuple(variables), uuid4().hex)
    if isinstance(env, Mix):
        return replace(env, environments={name: InProcesses(member, home) for name, member in members(env).items()})
    return InProcesses(env, home)


def _check_findable(env: EnvironmentFactory) -> None:
    """Raise EnvironmentSpecError if a child process can't find the environment."""
    if not hasattr(socket, "send_fds"):
        raise EnvironmentSpecError("in_processes is for Linux, macOS and other POSIX systems; on Windows, use WSL")
    try:
        payload = pickle.dumps(env)
    except Exception as error:  # `__reduce__` of the author's objects may raise anything
        raise EnvironmentSpecError(
            f"environment {env.name!r} can't be pickled for child processes, as a class at the top level of a module "
            f"can: {error}"
        ) from error
    if needs_main(payload) and find_main() is None:
        raise EnvironmentSpecError(
            f"environment {env.name!r} is defined where no other process can import it, such as a notebook: "
            "put it into a module"
        )


_pools: weakref.WeakValueDictionary[str, Pool] = weakref.WeakValueDictionary()
