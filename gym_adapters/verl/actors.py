"""Environments that need a process or a machine of their own, in Ray actors that all workers of a run share."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from functools import cache, partial
from typing import Any
from uuid import uuid4

import ray
from ray.exceptions import RayActorError, RayTaskError

from gym_adapters.verl.rows import Source
from gym_core import Environment, EpisodeError, GymError, Message, Rollout, Score, Task, Tool, ToolSchema


class EnvironmentHost:
    """Holds living environments in its process; a Ray actor.

    Args:
        source: What its environments are made of.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._living: dict[str, Environment] = {}

    async def setup(self, key: str, task: Task) -> tuple[Any, list[ToolSchema], bool]:
        """Make the environment of an episode and open it: its opening, its tools, and whether it is done."""
        env = self._living[key] = self._source.env(task)
        opening = await _value(env.setup())
        return opening, [tool.schema for tool in env.tools.values()], env.done

    async def call(self, key: str, hook: str, argument: Any) -> tuple[Any, bool]:
        """What `respond` or `verify` gives, and whether the environment is done."""
        env = self._environment(key)
        return await _value(getattr(env, hook)(argument)), env.done

    async def tool(self, key: str, name: str, arguments: str) -> tuple[str, bool]:
        """What a tool answers to the JSON text that the policy wrote, and whether the environment is done."""
        env = self._environment(key)
        return await env.tools[name](arguments), env.done

    async def close(self, key: str) -> None:
        """Close the environment of an episode, if it lives."""
        if key in self._living:
            await _value(self._living.pop(key).close())

    def _environment(self, key: str) -> Environment:
        if key not in self._living:
            raise EpisodeError("the environment's process was restarted, and the episode in it is lost")
        return self._living[key]


class RemoteEnvironment(Environment):
    """An environment that lives in an actor; the episode, its limits and its policy stay in the worker.

    Args:
        local: The same, not set up: its limits count.
        host: An `EnvironmentHost`.
    """

    def __init__(self, local: Environment, host: Any) -> None:
        super().__init__(local.task)
        self.max_turns, self.tool_timeout_s, self.timeout_s = local.max_turns, local.tool_timeout_s, local.timeout_s
        self.tools = {}
        self._host = host
        self._key = uuid4().hex

    async def setup(self) -> list[Message] | None:
        setup = self._host.setup.options(max_task_retries=1)  # which waits for an actor that is being restarted
        opening, schemas, self.done = await _answer(setup.remote(self._key, self.task))
        for schema in schemas:
            name = schema["function"]["name"]
            self.tools[name] = Tool(schema, partial(self._tool, name), _unparsed)
        return opening  # type: ignore[no-any-return]

    async def respond(self, message: Message) -> Message | list[Message] | None:
        return await self._call("respond", message)  # type: ignore[no-any-return]

    async def verify(self, rollout: Rollout) -> float | Score:
        return await self._call("verify", rollout)  # type: ignore[no-any-return]

    async def close(self) -> None:
        await _answer(self._host.close.remote(self._key))

    async def _call(self, hook: str, argument: Any) -> Any:
        value, self.done = await _answer(self._host.call.remote(self._key, hook, argument))
        return value

    async def _tool(self, name: str, arguments: str) -> str:
        answer, self.done = await _answer(self._host.tool.remote(self._key, name, arguments))
        return str(answer)


def in_actor(local: Environment, source: Source, options: Mapping[str, Any]) -> RemoteEnvironment:
    """An environment that will live in one of the actors of its source.

    The actors are made once in a run, by whoever needs them first, and restarted when they die.

    Args:
        local: The environment, not set up.
        source: Where it comes from.
        options: `count`, the number of actors, by default 1; the others are Ray's, as JSON: `num_cpus`,
            `max_concurrency` (calls that an actor answers at a time), `resources`, `runtime_env` ...

    Raises:
        GymError: `count` is not a positive number.
    """
    count = options.get("count", 1)
    if not isinstance(count, int) or count < 1:
        raise GymError(f"the count of actors must be a positive whole number, not {count!r}")
    ray_options = {"max_restarts": -1, **{name: value for name, value in options.items() if name != "count"}}
    job = ray.get_runtime_context().get_job_id()
    return RemoteEnvironment(local, _host(job, source.to_json(), json.dumps(ray_options), uuid4().int % count))


@cache  # an actor ends with the last handle in the process that made it
def _host(job: str, source: str, ray_options: str, number: int) -> Any:
    return (
        ray.remote(EnvironmentHost)
        .options(**json.loads(ray_options), name=f"gym {source} {number}", get_if_exists=True)
        .remote(Source(**json.loads(source)))
    )


def _unparsed(arguments: str) -> dict[str, Any]:
    """The arguments of a call as they are: they are parsed where the tool is."""
    return {"arguments": arguments}


async def _value(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


async def _answer(call: Any) -> Any:
    """What an actor answers.

    Raises:
        EpisodeError: It died.
        Exception: What was raised in it.
    """
    try:
        return await call
    except RayTaskError as error:
        raise error.cause from error
    except RayActorError as error:
        raise EpisodeError("the process of the environment died") from error
