"""The episode: the only driver of an environment, in any loop."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Self, TypeVar

from gym_core.environments import Environment, ErrorKind, Rollout, RolloutError, StopReason
from gym_core.episodes.boundary import Boundary, log_failure, sentence, text_of
from gym_core.episodes.hooks import Hooks, check_conversation
from gym_core.episodes.limits import OutOfTime
from gym_core.errors import EpisodeError, OutOfTokens, ToolError
from gym_core.messages import Message, ToolCall, ToolSchema
from gym_core.policies import Completion, Policy
from gym_core.tokens import TokenTrack

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Episode:
    """Opens an environment, feeds it one assistant message at a time, runs its tools, verifies once and closes once.

    Any exception in a hook, a tool or the policy breaks the episode: it becomes data in the rollout, whose reward is
    then None. Only the episode's own cancellation and a KeyboardInterrupt escape it.

    Args:
        env: Fresh environment; the episode closes it.

    Attributes:
        messages: Conversation so far, which the policy reads.
        done: Whether the episode is over.
        error: Failure that broke it, if any.
        opening: Messages that it was opened with.
        tool_calls: Number of tool calls so far.

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
        self.opening: list[Message] = []
        self.tool_calls = 0
        self._prompt = env.task.prompt
        self._hooks = Hooks(env)
        self._rollout: Rollout | None = None
        self._tokens: TokenTrack | None = None
        self._stop_reason: StopReason = "done"
        self._turns = self._tool_errors = 0
        self._closed = False

    @property
    def tools(self) -> list[ToolSchema]:
        """Schemas of the tools that the policy can call."""
        return self._hooks.schemas

    @property
    def made_opening(self) -> bool:
        """Whether `setup` returned an opening other than the task's prompt."""
        return self.opening not in ([], self._prompt)

    @property
    def rollout(self) -> Rollout:
        """The finished episode.

        Raises:
            EpisodeError: The episode has not finished yet.
        """
        if self._rollout is None:
            raise EpisodeError("the episode has not finished yet: leave its `async with` block or await finish()")
        return self._rollout

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        await (self.finish() if error is None else self.close())

    async def open(self) -> None:
        """Run `setup`; from here on the policy can read `messages` and `tools`, and the episode's time runs."""
        self.env.task = self.env.task.copy()  # hooks may write into it
        self._hooks.start()
        try:
            opening = await self._guard("setup", self._hooks.setup())
        except BaseException:  # cancelled
            await self.close()
            raise
        self.opening = opening or self._prompt
        self.messages += self.opening
        if await self._guard("setup", self._hooks.is_done()):
            self._stop("done")

    async def run(self, policy: Policy) -> Rollout:
        """Open, let a policy play to the end, verify and close."""
        async with self:
            while not self.done:
                await self.play(policy)
        return self.rollout

    async def play(self, policy: Policy) -> None:
        """Play one turn: let the policy write a message, and take it."""
        await self._take(await self._guard("policy", self._hooks.ask(policy, self.messages, self.tools)))

    async def step(self, completion: Completion) -> None:
        """Take one assistant message: run its tool calls, in order, or let the environment respond.

        Raises:
            EpisodeError: The episode is over.
        """
        if self.done:
            raise EpisodeError(f"the episode is over ({self._stop_reason}), and takes no more messages")
        await self._take(await self._guard("policy", self._hooks.checked(completion)))

    async def call(self, call: ToolCall) -> Message:
        """Answer one tool call; only a driver that runs the tool calls itself needs this, others use `step`.

        An unknown tool, arguments that do not fit, a ToolError and a timeout are answered with a sentence the policy
        can act on. Anything else breaks the episode.
        """
        self.tool_calls += 1
        name = call["function"]["name"]
        try:
            if self.done:
                raise ToolError("the episode is over, tools can't be called any more")
            content = await self._guard("tool", self._hooks.tool(name, call["function"]["arguments"]))
            if content is None:
                raise ToolError("the tool broke, the episode is over")
        except ToolError as error:
            self._tool_errors += self.error is None  # a failure of the environment is not the policy's error
            content = json.dumps({"error": text_of(error)}, ensure_ascii=False)
        if await self._guard("tool", self._hooks.is_done()):
            self._stop("done")
        return {"role": "tool", "tool_call_id": call["id"], "name": name, "content": content}

    async def finish(self, output: Sequence[Message] | None = None) -> Rollout:
        """Verify and close, once; later calls give the same rollout.

        Args:
            output: Whole conversation, from a driver that keeps its own; by default `messages`.
        """
        if self._rollout is not None:
            return self._rollout
        if output is not None:
            await self._guard("replay", self._adopt(output))
        try:
            score = None if self.error else await self._guard("verify", self._hooks.verify(self._summary))
        finally:
            await self.close()
        self._rollout = replace(self._summary(), **({} if score is None else vars(score)))
        return self._rollout

    def fail(self, kind: ErrorKind, error: BaseException) -> None:
        """Break the episode, for a driver that can't go on; only the first failure is kept."""
        if self.error is None:
            self.error = RolloutError(kind, sentence(error))
            self.done, self._stop_reason = True, "timeout" if kind == "timeout" else "error"
            log_failure(self.env.name, kind, error)

    async def close(self) -> None:
        """Close the environment once, without a verdict; waits even when cancelled meanwhile, but not forever."""
        if self._closed:
            return
        self._closed = True
        with Boundary() as boundary:
            await self._hooks.close()
        if boundary.failure is not None:
            _log.warning("environment %s failed to close", self.env.name, exc_info=boundary.failure)
            self.error = self.error or RolloutError("close", sentence(boundary.failure))

    async def _take(self, completion: Completion | None) -> None:
        if completion is None:  # the policy failed or has no tokens left
            return
        self.messages.append(completion.message)
        self._tokens = completion.tokens
        self._turns += 1
        if completion.finish_reason == "length":
            self._stop("length")
        elif calls := completion.message.get("tool_calls"):
            for call in calls:
                self.messages.append(await self.call(call))
        else:
            reply = await self._guard("respond", self._hooks.respond(completion.message))
            self.messages += reply or ()
            if await self._guard("respond", self._hooks.is_done()) or reply is None:
                self._stop("done")
        if not self.done and self._turns >= self.env.max_turns:
            self._stop("max_turns")

    async def _adopt(self, output: Sequence[Message]) -> None:
        """Adopt a conversation that another loop has played, and determine why it ended."""
        check_conversation(output)
        self.messages = list(output)
        written = [message for message in output[len(self.opening) :] if message["role"] == "assistant"]
        self._turns = len(written)
        self.tool_calls = sum(len(message.get("tool_calls") or ()) for message in written)
        if output and output[-1].get("tool_calls"):
            self._stop("max_turns" if self._turns >= self.env.max_turns else "length")

    async def _guard(self, kind: ErrorKind, hook: Awaitable[T]) -> T | None:
        """The result of a hook; None if it broke the episode, or the policy has no tokens left.

        Raises:
            ToolError: A tool refused the call; other hooks never raise it.
        """
        with Boundary() as boundary:
            return await hook
        match boundary.failure:
            case OutOfTime() as late:
                self.fail("timeout", late)
            case OutOfTokens() if kind == "policy":
                self._stop("length")
            case ToolError() as refusal if kind == "tool":
                raise refusal
            case BaseException() as failure:
                self.fail(kind, failure)
        return None

    def _stop(self, reason: StopReason) -> None:
        if not self.done:
            self.done, self._stop_reason = True, reason

    def _summary(self) -> Rollout:
        """The rollout as far as it is known before the verdict."""
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
            seconds=self._hooks.seconds,
            tokens=self._tokens,
        )
