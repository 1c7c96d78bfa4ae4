"""Hooks: calls of an environment's hooks, its tools and a policy, within the time of the episode."""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from gym_core.environments import Environment, Rollout, Score, Task, Tool
from gym_core.episodes.limits import OutOfTime, uncancelled, within
from gym_core.errors import EpisodeError, ToolError
from gym_core.messages import Message, ToolSchema, conversation_problem, message_problem
from gym_core.policies import Completion, Policy, completion_problem

CLOSE_TIMEOUT_S = 10.0
"""Seconds after which `close` is given up, so that no environment can keep a run from ending."""


class Hooks:
    """Makes the calls of an episode and checks their results; any exception may escape.

    The episode's time runs from `start` on; `OutOfTime` is raised when it is over.
    """

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._task = env.task
        self._started_s: float | None = None

    def start(self) -> None:
        """Start the clock."""
        self._task = self._env.task
        self._started_s = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall seconds since the start."""
        return 0.0 if self._started_s is None else time.monotonic() - self._started_s

    @property
    def left_s(self) -> float:
        """Wall seconds left of the environment's `timeout_s`."""
        return inf if self._env.timeout_s is None else self._env.timeout_s - self.seconds

    @property
    def schemas(self) -> list[ToolSchema]:
        """Schemas of the tools; none if `setup` has set something else, which breaks the episode."""
        tools = self._env.tools
        return [tool.schema for tool in tools.values()] if _are_tools(tools) else []

    def check_time(self) -> None:
        """Check that there is time left, also after a hook that has blocked the event loop.

        Raises:
            OutOfTime: There is no time left.
        """
        if self.left_s < 0:
            raise self._late()

    async def setup(self) -> list[Message]:
        """The opening conversation."""
        opening = await self._within(self._env.setup())
        self._check_attributes()
        if opening is None:
            messages = _messages("the task's prompt must consist of", self._env.task.prompt)
        else:
            messages = _messages("setup must return", opening)
        if not messages:
            raise EpisodeError("the task has no prompt and setup returned no messages")
        return messages

    async def is_done(self) -> bool:
        """Whether the environment ends the episode.

        Raises:
            EpisodeError: A hook has set an attribute of the environment to something that it can't be.
        """
        self._check_attributes()
        return bool(self._env.done)

    async def ask(self, policy: Policy, messages: list[Message], tools: list[ToolSchema]) -> Completion:
        """The policy's next message."""
        return await self.checked(await self._within(policy(messages, tools)))

    async def checked(self, completion: Completion) -> Completion:
        """Check that the policy has written something that an episode can take, and return it."""
        if problem := completion_problem(completion):
            raise EpisodeError(problem)
        return completion

    async def tool(self, name: str, arguments: str) -> str:
        """The answer of a tool to the JSON text that the policy wrote.

        Raises:
            ToolError: The tool refused, does not exist, or took too long.
        """
        tool = self._env.tools.get(name)
        if tool is None:
            raise ToolError(f"unknown tool {name!r}; the tools are {', '.join(self._env.tools) or 'none'}")
        limit_s, left_s = self._env.tool_timeout_s, self.left_s
        try:
            return str(await self._within(tool(arguments), limit_s))
        except OutOfTime as error:
            if limit_s < left_s:
                raise ToolError(f"the tool took longer than {limit_s:g} seconds and was given up") from error
            raise

    async def respond(self, message: Message) -> list[Message] | None:
        """The environment's answer as the user; None ends the episode."""
        shown = copy.deepcopy(message) if isinstance(message["content"], list) else message.copy()
        reply = await self._within(self._env.respond(shown))  # `respond` may write into its message
        return None if reply is None else _messages("respond must return", reply)

    async def verify(self, summary: Callable[[], Rollout]) -> Score:
        """The verdict on the episode."""
        self.check_time()
        verdict = await self._within(self._env.verify(summary()))
        self._check_attributes()
        # A class derived from Score may have fields of its own.
        return Score(verdict.reward, verdict.components) if isinstance(verdict, Score) else Score(verdict)

    async def close(self) -> None:
        """Close the environment, also when cancelled meanwhile; a `close` that takes too long is given up."""
        closing = self._env.close()
        if inspect.isawaitable(closing):
            await uncancelled(closing, CLOSE_TIMEOUT_S)

    def _check_attributes(self) -> None:
        """Check the attributes of the environment that the episode itself reads."""
        if not isinstance(task := self._env.task, Task):
            self._env.task = self._task  # metrics and groups go by the task, also after a failure
            raise EpisodeError(f"task must be a Task, not {task!r}")
        if not isinstance(self._env.max_turns, int | float):
            raise EpisodeError(f"max_turns must be a number, not {self._env.max_turns!r}")
        if not _are_tools(self._env.tools):
            raise EpisodeError(f"tools must be a dict of Tool by name, not {self._env.tools!r}")

    async def _within(self, value: Any, limit_s: float = inf) -> Any:
        left_s = self.left_s
        try:
            return await within(value, min(limit_s, left_s))
        except OutOfTime as error:
            if limit_s < left_s:
                raise
            raise self._late() from error

    def _late(self) -> OutOfTime:
        return OutOfTime(f"the episode took longer than its {self._env.timeout_s:g} seconds")


def _are_tools(tools: Any) -> bool:
    return isinstance(tools, dict) and all(isinstance(tool, Tool) for tool in tools.values())


def _messages(rule: str, said: Any) -> list[Message]:
    messages = said if isinstance(said, list | tuple) else [said]
    for message in messages:
        if message_problem(message):
            raise EpisodeError(f"{rule} messages like user('...'), not {message!r}")
    return list(messages)


def check_conversation(messages: Sequence[Message]) -> None:
    """Check that a conversation played elsewhere consists of messages.

    Raises:
        EpisodeError: It has something else.
    """
    if problem := conversation_problem(messages):
        raise EpisodeError(f"{problem}, in the conversation to verify")
