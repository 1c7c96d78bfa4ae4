"""The host: makes and runs environments in the process in which they live."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import logging
import operator
import threading
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from gym_core.environments import Environment, EnvironmentFactory, Task, Tool, members
from gym_core.errors import EpisodeError, ToolError
from gym_core.messages import ToolSchema

Hook = Literal["setup", "tool", "respond", "verify", "verify_group", "close"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a hook, and the state of the environment that its episode must know.

    Attributes:
        kind: Whether the hook returned, a tool refused, or the hook broke.
        value: Result of the hook; a sentence if it refused or broke.
        trace: Traceback, if the hook broke.
        facts: `done`, `max_turns` and `tool_timeout_s` of the environment.
        tools: Schemas of the tools, if they have changed.
    """

    kind: Literal["value", "refused", "broken"]
    value: Any = None
    trace: str = ""
    facts: tuple[bool, int, float] | None = None
    tools: list[ToolSchema] | None = None


class EnvironmentHost:
    """Runs environments in its process; for any number of threads.

    Args:
        load: Function that loads the factory of the environments; called again until it succeeds.
    """

    def __init__(self, load: Callable[[], EnvironmentFactory]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._env: EnvironmentFactory | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def env(self) -> EnvironmentFactory:
        """The factory of the environments."""
        with self._lock:
            if self._env is None:
                self._env = self._load()
            return self._env

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of all async hooks, in a thread of its own, so that sync hooks never hold it up."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_run, args=(self._loop,), name="gym-environments", daemon=True).start()
            return self._loop


class HostedEnvironment:
    """The environment of one episode at a time; its sync hooks run in the calling thread.

    Args:
        host: Host in which it lives.
        stop: Descriptor that becomes readable when the running async hook is to be cancelled.
    """

    def __init__(self, host: EnvironmentHost, stop: int | None = None) -> None:
        self._host = host
        self._stop = stop
        self._running: asyncio.Future[Any] | None = None
        self._env: Environment | None = None
        self._shown: list[Tool] = []

    def answer(self, hook: Hook, *arguments: Any) -> Answer:
        """Run a hook: `setup` with the name of the environment and a task, `tool` with a name and JSON text."""
        try:
            return Answer("value", self._run(hook, *arguments), **self._state())
        except ToolError as error:
            return Answer("refused", str(error), **self._state())
        except BaseException as error:  # the process boundary; SystemExit must not end the other episodes
            return broken(error)

    def cancel(self) -> None:
        """Cancel the running hook, if it is async; for any thread."""
        if running := self._running:
            self._host.loop.call_soon_threadsafe(running.cancel)

    def _run(self, hook: Hook, *arguments: Any) -> Any:
        match hook:
            case "setup":
                self._env, self._shown = None, []
                self._env = self._made(*arguments)
                return self._value(self._env.setup())
            case "tool":
                name, text = arguments
                tool = self._living.tools[name]
                return tool.text(self._value(tool.function(**tool.parse(text))))
            case "verify_group":
                name, rollouts = arguments
                return list(self._value(self._made(name, rollouts[0].task).verify_group(rollouts)))
            case "respond":
                return self._value(self._living.respond(*arguments))
            case "verify":
                return self._value(self._living.verify(*arguments))
            case "close":
                env, self._env = self._env, None
                return self._value(env.close()) if env else None

    def _made(self, name: str, task: Task) -> Environment:
        return members(self._host.env)[name](task)

    @property
    def _living(self) -> Environment:
        if self._env is None:
            raise EpisodeError("the process of the environment was started anew, and the episode in it is lost")
        return self._env

    def _state(self) -> dict[str, Any]:
        """The facts about the environment in an answer."""
        if (env := self._env) is None:
            return {}
        tools, shown = list(env.tools.values()), self._shown
        self._shown = tools
        is_shown = len(tools) == len(shown) and all(map(operator.is_, tools, shown))
        return {
            "facts": (env.done, env.max_turns, env.tool_timeout_s),
            "tools": None if is_shown else [tool.schema for tool in tools],
        }

    def _value(self, result: Any) -> Any:
        """The result of a hook, sync or async."""
        if not inspect.isawaitable(result):
            return result
        return asyncio.run_coroutine_threadsafe(self._awaited(result), self._host.loop).result()

    async def _awaited(self, result: Awaitable[Any]) -> Any:
        loop, self._running = asyncio.get_running_loop(), asyncio.current_task()
        if self._stop is not None:
            loop.add_reader(self._stop, self._cancel)
        try:
            return await result
        finally:
            self._running = None
            if self._stop is not None:
                loop.remove_reader(self._stop)

    def _cancel(self) -> None:
        """Cancel the running hook, once."""
        if self._stop is not None:
            self._host.loop.remove_reader(self._stop)
        if self._running:
            self._running.cancel()


def broken(error: BaseException) -> Answer:
    """The answer of a hook that raised."""
    trace = traceback.TracebackException.from_exception(error)  # even if `__str__` raises
    if isinstance(error, asyncio.CancelledError | concurrent.futures.CancelledError):
        sentence = "something it waited for was cancelled"
    elif isinstance(error, EpisodeError):
        sentence = str(trace)
    else:
        sentence = f"{type(error).__name__}: {trace}"
    return Answer("broken", sentence, "".join(trace.format()))


def _run(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        try:
            loop.run_forever()
        except BaseException as error:  # a task started by an environment raised SystemExit
            _log.warning("a task in the process of an environment ended with %r", error, exc_info=error)
