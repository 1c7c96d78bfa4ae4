"""The episode: the only driver of an environment, whoever owns the loop."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import Any, Self, cast

from gym_core.environments import (
    Environment,
    EnvironmentFactory,
    ErrorKind,
    Rollout,
    RolloutError,
    Score,
    StopReason,
    Task,
)
from gym_core.episodes.hooks import OutOfTime, is_cancelled, uncancelled, within
from gym_core.errors import EpisodeError, OutOfTokens, ToolError
from gym_core.messages import Message, ToolCall, ToolSchema
from gym_core.policies import Completion, Policy, completion_problem
from gym_core.tokens import TokenTrack

CLOSE_TIMEOUT_S = 10.0
"""Seconds after which `close` is given up, so that no environment can keep a run from ending."""

_log = logging.getLogger(__name__)


class Episode:
    """Opens an environment, feeds it one assistant message at a time, runs its tools, verifies once and closes once.

    Whatever escapes a hook, a tool or the policy breaks the episode: it becomes data in the rollout, whose reward is
    then None. Nothing but cancellation escapes the episode.

    Args:
        env: A fresh environment; the episode closes it.

    Attributes:
        messages: The conversation so far; the policy reads it.
        done: Nothing more can be played.
        error: What broke it, if anything has.
        tool_calls: How many it has been asked to run.

    Example:
        >>> async with Episode(env) as episode:
        ...     while not episode.done:
        ...         await episode.step(await policy(episode.messages, episode.tools))
        >>> episode.rollout.reward
    """

    def __init__(self, env: Environment) -> None:
        self.env = env
        self.messages: list[Message] = []
        self.done = False
        self.error: RolloutError | None = None
        self._rollout: Rollout | None = None
        self._tokens: TokenTrack | None = None
        self._stop_reason: StopReason = "done"
        self.tool_calls = 0
        self._turns = self._tool_errors = 0
        self._opening_length = 0
        self._started_s = time.monotonic()
        self._deadline_s = inf if env.timeout_s is None else self._started_s + env.timeout_s
        self._closed = False

    @property
    def tools(self) -> list[ToolSchema]:
        """What the policy can call."""
        return [tool.schema for tool in self.env.tools.values()]

    @property
    def rollout(self) -> Rollout:
        """The finished episode.

        Raises:
            EpisodeError: It has not finished yet.
        """
        if self._rollout is None:
            raise EpisodeError("the episode has not finished yet: leave its `async with` block or await finish()")
        return self._rollout

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            await self.finish()
        else:
            await self.close()

    async def open(self) -> None:
        """Run `setup`; from here on `messages` and `tools` are what the policy sees."""
        try:
            opening = await self._guard("setup", self.env.setup)
        except BaseException:  # cancelled
            await self.close()
            raise
        self._say("setup", self.env.task.prompt if opening is None else opening)
        self._opening_length = len(self.messages)
        if not self.messages and not self.done:
            self.fail("setup", EpisodeError("the task has no prompt and setup returned no messages"))
        if self.env.done:
            self._stop("done")

    async def run(self, policy: Policy) -> Rollout:
        """Open, let a policy play to the end, verify and close."""
        async with self:
            while not self.done:
                await self.play(policy)
        return self.rollout

    async def play(self, policy: Policy) -> None:
        """One turn: let the policy write a message, and take it."""
        completion = await self._guard("policy", policy, self.messages, self.tools)
        if self.done:  # the policy failed, or has no tokens left
            return
        if problem := completion_problem(completion):
            self.fail("policy", EpisodeError(problem))
        else:
            await self.step(completion)

    async def step(self, completion: Completion) -> None:
        """Take one assistant message: run its tool calls, in order, or let the environment respond.

        Raises:
            EpisodeError: The episode is over.
        """
        if self.done:
            raise EpisodeError(f"the episode is over ({self._stop_reason}), it takes no more messages")
        self.messages.append(completion.message)
        self._tokens = completion.tokens
        self._turns += 1
        calls = completion.message.get("tool_calls")
        if completion.finish_reason == "length":
            self._stop("length")
        elif calls:
            for call in calls:
                self.messages.append(await self.call(call))
        else:
            await self._respond(completion.message)
        if self._turns >= self.env.max_turns:
            self._stop("max_turns")

    async def call(self, call: ToolCall) -> Message:
        """Answer one tool call; a driver that owns the loop calls it itself, others by `step`.

        An unknown tool, arguments that do not fit, a ToolError and a time-out are answered with a sentence the policy
        can act on. Anything else breaks the episode.
        """
        self.tool_calls += 1
        name = call["function"]["name"]
        try:
            content = await self._content(name, call["function"]["arguments"])
        except ToolError as error:
            self._tool_errors += self.error is None  # the environment's own failure is not the policy's
            content = json.dumps({"error": str(error)}, ensure_ascii=False)
        if self.env.done:
            self._stop("done")
        return {"role": "tool", "tool_call_id": call["id"], "name": name, "content": content}

    async def finish(self, output: Sequence[Message] | None = None) -> Rollout:
        """Verify and close, once; later calls give the same rollout.

        Args:
            output: The whole conversation, from a driver that owns the loop; the default is `messages`.
        """
        if self._rollout is not None:
            return self._rollout
        if output is not None:
            self._adopt(output)
        if time.monotonic() > self._deadline_s:
            self._out_of_time()
        try:
            score: Score | None = await self._guard("verify", self._verify) if self.error is None else None
        finally:
            await self.close()
        self._rollout = replace(self._summary(), **_verdict(score))
        return self._rollout

    def fail(self, kind: ErrorKind, error: Exception, *, reason: StopReason = "error") -> None:
        """Break the episode, from a driver that can't go on; the first failure is the one that is kept."""
        if self.error is None:
            self.error = RolloutError(kind, _sentence(error))
            self.done, self._stop_reason = True, reason
            _log.debug("episode of task %s broke in %s", self.env.task.id, kind, exc_info=error)

    async def close(self) -> None:
        """Close the environment without a verdict, once; waits even when cancelled meanwhile, but not for ever."""
        if self._closed:
            return
        self._closed = True
        try:
            closing = self.env.close()
            if inspect.isawaitable(closing):
                await uncancelled(closing, CLOSE_TIMEOUT_S)
        except Exception as error:  # the episode boundary
            _log.warning("environment %s failed to close", self.env.name, exc_info=error)
            self.error = self.error or RolloutError("close", _sentence(error))

    def _adopt(self, output: Sequence[Message]) -> None:
        """Take over a conversation that another loop has played, and say why it ended."""
        self.messages = list(output)
        written = [message for message in output[self._opening_length :] if message["role"] == "assistant"]
        self._turns = len(written)
        self.tool_calls = sum(len(message.get("tool_calls", ())) for message in written)
        if output and output[-1].get("tool_calls"):
            self._stop("max_turns" if self._turns >= self.env.max_turns else "length")

    async def _content(self, name: str, arguments: str) -> str:
        """What a tool answers.

        Raises:
            ToolError: It refused, is not there, or took too long.
        """
        if self.done:
            raise ToolError("the episode is over, tools can't be called any more")
        tool = self.env.tools.get(name)
        if tool is None:
            raise ToolError(f"unknown tool {name!r}; the tools are {', '.join(self.env.tools) or 'none'}")
        content = await self._guard("tool", tool, arguments, limit_s=self.env.tool_timeout_s)
        if content is None:
            raise ToolError("the tool broke, the episode is over")
        return str(content)

    async def _respond(self, message: Message) -> None:
        reply = await self._guard("respond", self.env.respond, message)
        if reply is not None:
            self._say("respond", reply)
        if reply is None or self.env.done:
            self._stop("done")

    def _say(self, kind: ErrorKind, said: Any) -> None:
        for message in said if isinstance(said, list | tuple) else [said]:
            if not isinstance(message, dict) or not message.keys() >= {"role", "content"}:
                self.fail(kind, EpisodeError(f"{kind} must return messages like user('...'), not {message!r}"))
                return
            self.messages.append(cast("Message", message))

    async def _verify(self) -> Score:
        verdict = self.env.verify(self._summary())
        if inspect.isawaitable(verdict):
            verdict = await verdict
        return verdict if isinstance(verdict, Score) else Score(verdict)

    async def _guard(self, kind: ErrorKind, hook: Callable[..., Any], *args: Any, limit_s: float = inf) -> Any:
        """The result of a hook; None when it broke the episode.

        Raises:
            ToolError: Only from tools.
        """
        left_s = self._deadline_s - time.monotonic()
        try:
            return await within(hook(*args), min(limit_s, left_s))
        except OutOfTime as error:
            if limit_s < left_s:
                raise ToolError(f"the tool took longer than {limit_s:g} seconds and was given up") from error
            self._out_of_time()
        except OutOfTokens:
            self._stop("length")
        except ToolError as error:
            if kind == "tool":
                raise
            self.fail(kind, error)
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            self.fail(kind, EpisodeError("something it waited for was cancelled"))
        except Exception as error:  # the episode boundary: a failure is data
            self.fail(kind, error)
        return None

    def _stop(self, reason: StopReason) -> None:
        if not self.done:
            self.done, self._stop_reason = True, reason

    def _out_of_time(self) -> None:
        error = EpisodeError(f"the episode took longer than its {self.env.timeout_s:g} seconds")
        self.fail("timeout", error, reason="timeout")

    def _summary(self) -> Rollout:
        """All that is known of the episode before its verdict."""
        return Rollout(
            reward=None,
            output=self.messages,
            error=self.error,
            stop_reason=self._stop_reason,
            task=self.env.task,
            tools=self.tools,
            turns=self._turns,
            tool_calls=self.tool_calls,
            tool_errors=self._tool_errors,
            seconds=time.monotonic() - self._started_s,
            tokens=self._tokens,
        )


def open_episode(env: EnvironmentFactory, task: Task) -> Episode:
    """The episode of a task, not opened yet; an environment that can't even be made breaks it in `setup`."""
    try:
        return Episode(env(task))
    except Exception as error:  # the episode boundary
        return Episode(_Unmade(task, error))


async def rollout(env: Environment, policy: Policy) -> Rollout:
    """Let a policy play one episode, from `setup` to `close`.

    A broken episode is data, not a crash: it comes back with `error` set and no reward.
    """
    return await Episode(env).run(policy)


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, EpisodeError) else f"{type(error).__name__}: {error}"


def _verdict(score: Score | None) -> dict[str, Any]:
    return {} if score is None else {"reward": score.reward, "components": score.components}


class _Unmade(Environment):
    """Stands for an environment whose constructor failed."""

    def __init__(self, task: Task, error: Exception) -> None:
        super().__init__(task)
        self._unmade_by = error

    def setup(self) -> None:
        raise self._unmade_by
