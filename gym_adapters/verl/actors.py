"""Environments that need a process or a machine of their own, in Ray actors that all workers of a run share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any
from uuid import uuid4

import ray
from ray.exceptions import RayActorError, RayTaskError

from gym_adapters.verl.rows import Source
from gym_core import Environment, EpisodeError, GymError
from gym_core.processes import Answer, EnvironmentHost, Hook, HostedEnvironment, RemoteEnvironment


class EnvironmentActor:
    """Holds living environments in its process; a Ray actor.

    Args:
        source: Source of its environments.
    """

    def __init__(self, source: Source) -> None:
        self._host = EnvironmentHost(lambda: source.env)
        self._living: dict[str, tuple[HostedEnvironment, ThreadPoolExecutor]] = {}

    async def ready(self) -> None:
        """Return as soon as the process has started."""

    async def answer(self, key: str, hook: Hook, *arguments: Any) -> Answer:
        """Run a hook of the environment `key`; all its sync hooks run in one thread."""
        if key not in self._living:
            self._living[key] = HostedEnvironment(self._host), ThreadPoolExecutor(1, "gym-environment")
        environment, thread = self._living[key]
        return await asyncio.get_running_loop().run_in_executor(thread, environment.answer, hook, *arguments)

    async def cancel(self, key: str) -> None:
        """Cancel the running hook of an environment, if it is async."""
        if key in self._living:  # unless the actor was restarted
            self._living[key][0].cancel()

    async def leave(self, key: str) -> None:
        """Forget an environment."""
        if key in self._living:
            self._living.pop(key)[1].shutdown(wait=False)


class ActorPlaces:
    """The actors of a source, in this process."""

    def __init__(self, hosts: list[Any]) -> None:
        self._hosts = hosts

    async def enter(self) -> ActorPlace:
        """A place in an actor that has started; an actor takes any number of environments."""
        host = self._hosts[uuid4().int % len(self._hosts)]
        try:
            await host.ready.options(max_task_retries=-1).remote()
        except RayActorError as error:
            raise EpisodeError(f"the process of the environment could not be started: {error}") from error
        return ActorPlace(host)


class ActorPlace:
    """A place in an actor."""

    def __init__(self, host: Any) -> None:
        self.is_lost = False
        self._host = host
        self._key = uuid4().hex

    async def ask(self, hook: Hook, *arguments: Any) -> Answer:
        """As in `Place`, but a sync hook that was stopped goes on in the actor, which lives on."""
        try:
            answer: Answer = await self._host.answer.remote(self._key, hook, *arguments)
        except asyncio.CancelledError:
            self._host.cancel.remote(self._key)
            raise
        except RayTaskError as error:  # not of the hook
            raise EpisodeError(f"{hook!r} could not be run in an actor: {error.cause}") from error
        except RayActorError as error:
            self.is_lost = True
            raise EpisodeError("the process of the environment died") from error
        return answer

    def leave(self) -> None:
        """As in `Place`."""
        if not self.is_lost:
            self._host.leave.remote(self._key)


def in_actor(local: Environment, source: Source, options: Mapping[str, Any]) -> RemoteEnvironment:
    """Make an environment that will live in one of the actors of its source.

    The actors are made once per run, when they are first needed, and restarted when they die.

    Args:
        local: Environment, not set up.
        source: Source of the environment.
        options: Options as JSON: `count`, the number of actors, by default 1; the others are Ray's, such as `num_cpus`,
            `max_concurrency` (calls that an actor answers at the same time), `resources` and `runtime_env`.

    Raises:
        GymError: `count` is not a positive number.
    """
    count = options.get("count", 1)
    if not isinstance(count, int) or count < 1:
        raise GymError(f"the count of actors must be a positive whole number, not {count!r}")
    ray_options = {"max_restarts": -1, **{name: value for name, value in options.items() if name != "count"}}
    job = ray.get_runtime_context().get_job_id()
    places = _places(job, source.to_json(), json.dumps(ray_options), count)
    return RemoteEnvironment(local, local.task.environment or source.env.name, places)


@cache  # an actor ends with the last handle in the process that made it
def _places(job: str, source: str, ray_options: str, count: int) -> ActorPlaces:
    made, options = Source(**json.loads(source)), {**json.loads(ray_options), "get_if_exists": True}
    actor = ray.remote(EnvironmentActor)
    return ActorPlaces([actor.options(name=f"gym {source} {n}", **options).remote(made) for n in range(count)])
