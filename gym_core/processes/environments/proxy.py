"""The proxy: an environment whose hooks run in another process, as its episode sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from gym_core.environments import Environment, Rollout, Score, Tool
from gym_core.errors import EpisodeError, ToolError
from gym_core.messages import Message, ToolSchema
from gym_core.processes.environments.host import Answer, Hook


class UnheardError(EpisodeError):
    """A process died before it read the request."""


class Place(Protocol):
    """Room for one environment at a time in another process."""

    is_lost: bool
    """Whether the environment there is gone, with or without its process."""

    async def ask(self, hook: Hook, *arguments: Any) -> Answer:
        """Ask the `HostedEnvironment` there, one request at a time; cancelling a request stops the hook.

        Raises:
            UnheardError: The process died without running the hook.
            EpisodeError: The process can't answer.
        """

    def leave(self) -> None:
        """Make room for another environment; one that has not been closed is lost."""


class Places(Protocol):
    """A source of places for environments."""

    async def enter(self) -> Place:
        """The next free place.

        Raises:
            EpisodeError: There will be no free place.
        """


class RemoteEnvironment(Environment):
    """An environment that lives in another process; its episode, the limits and the policy stay in this one.

    Args:
        local: The same environment, not set up, for what is known before `setup`.
        member: Name of the environment among the members of the host's factory.
        places: Source of a place for it.
    """

    def __init__(self, local: Environment, member: str, places: Places) -> None:
        super().__init__(local.task)
        self.name, self.hooks = local.name, local.hooks  # type: ignore[misc]  # of a class, but for such as this one
        self.max_turns, self.tool_timeout_s, self.timeout_s = local.max_turns, local.tool_timeout_s, local.timeout_s
        self._show([tool.schema for tool in local.tools.values()])
        self._member = member
        self._places = places
        self._place: Place | None = None
        self._requests = asyncio.Lock()  # a driver may run several tools concurrently

    async def setup(self) -> list[Message] | None:
        try:
            return await self._move_in()
        except UnheardError:  # the process died unnoticed while it was idle
            self._move_out()
            return await self._move_in()

    async def respond(self, message: Message) -> Message | list[Message] | None:
        if "respond" not in self.hooks:
            return None
        return await self._ask("respond", message)  # type: ignore[no-any-return]

    async def verify(self, rollout: Rollout) -> float | Score:
        return await self._ask("verify", rollout)  # type: ignore[no-any-return]

    async def verify_group(self, rollouts: Sequence[Rollout]) -> Sequence[float | Score]:  # type: ignore[override]
        """Judge a group by the class of the environment, which only the proxy can find."""
        try:
            return await self._judge(rollouts)
        except UnheardError:
            return await self._judge(rollouts)

    async def close(self) -> None:
        try:
            async with self._requests:
                if self._place and not self._place.is_lost:
                    _value(await self._place.ask("close"))
        finally:
            self._move_out()

    async def _move_in(self) -> list[Message] | None:
        self._place = await self._places.enter()
        return await self._ask("setup", self._member, self.task)  # type: ignore[no-any-return]

    def _move_out(self) -> None:
        place, self._place = self._place, None
        if place:
            place.leave()

    async def _judge(self, rollouts: Sequence[Rollout]) -> Sequence[float | Score]:
        place = await self._places.enter()
        try:
            return _value(await place.ask("verify_group", self._member, rollouts))  # type: ignore[no-any-return]
        finally:
            place.leave()

    async def _tool(self, name: str, arguments: str) -> str:
        deadline_s = time.monotonic() + self.tool_timeout_s
        try:
            return str(await self._ask("tool", name, arguments))
        except asyncio.CancelledError:
            if self._place and self._place.is_lost and time.monotonic() > deadline_s:
                sentence = f"the tool {name!r} took longer than {self.tool_timeout_s:g} seconds and did not stop"
                raise EpisodeError(f"{sentence}, so its process was given up") from None
            raise

    async def _ask(self, hook: Hook, *arguments: Any) -> Any:
        async with self._requests:
            if self._place is None:
                raise EpisodeError("the environment is not set up, or is closed")
            answer = await self._place.ask(hook, *arguments)
        if answer.facts is not None:
            self.done, self.max_turns, self.tool_timeout_s = answer.facts
        if answer.tools is not None:
            self._show(answer.tools)
        return _value(answer)

    def _show(self, schemas: Sequence[ToolSchema]) -> None:
        names = [schema["function"]["name"] for schema in schemas]
        self.tools = {
            name: Tool(schema, partial(self._tool, name), _unparsed)
            for name, schema in zip(names, schemas, strict=True)
        }


class _RemoteTraceback(Exception):
    """The cause of an error in another process, for the log."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _value(answer: Answer) -> Any:
    """The result of the hook.

    Raises:
        ToolError: A tool refused.
        EpisodeError: The hook broke.
    """
    if answer.kind == "refused":
        raise ToolError(answer.value)
    if answer.kind == "broken":
        raise EpisodeError(answer.value) from _RemoteTraceback(answer.trace)
    return answer.value


def _unparsed(arguments: str) -> dict[str, Any]:
    """Pass the arguments of a call on: they are parsed in the process of the tool."""
    return {"arguments": arguments}
