"""A policy for engines that continue token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from gym_core.environments import Rollout
from gym_core.errors import OutOfTokens, PolicyError
from gym_core.messages import Message, ToolSchema, user
from gym_core.policies.policy import Completion
from gym_core.tokens import ChatTemplate, TokenTrack


@dataclass(frozen=True, slots=True)
class Sampled:
    """One turn as the engine sampled it.

    Attributes:
        ids: Sampled token ids, including the token that ended the turn, if one did.
        logprobs: Natural logarithms, one per token; None if the engine gives none.
        finish_reason: Reason why the turn ended; "length" if the engine cut it off.
        prompt_ids: Prompt tokens that the engine reports, if it reports them.
    """

    ids: list[int]
    logprobs: list[float] | None = None
    finish_reason: Literal["stop", "length"] = "stop"
    prompt_ids: Sequence[int] | None = None


class TokenPolicy(Protocol):
    """An engine that continues token ids."""

    async def __call__(self, prompt_ids: list[int], /, *, max_tokens: int) -> Sampled:
        """Sample at most `max_tokens` tokens; raises PolicyError on failure."""
        ...


class TokenizedPolicy:
    """The policy of one episode on an engine that continues token ids.

    It renders the opening once, then only the environment's additions, and keeps every token in `track`.

    Args:
        sample: Engine to sample from.
        template: Chat template of the model.
        max_tokens: Most tokens of the whole completion, the environment's included.
        max_turn_tokens: Most tokens per turn; a turn cut off here gets its end token appended, and the episode goes on.
    """

    def __init__(
        self, sample: TokenPolicy, template: ChatTemplate, *, max_tokens: int, max_turn_tokens: int | None = None
    ) -> None:
        self.track = TokenTrack()
        self._sample = sample
        self._template = template
        self._max_tokens = max_tokens
        self._max_turn_tokens = max_turn_tokens or max_tokens
        self._seen = 0
        self._turn_ids: Sequence[int] = ()
        self._opened = ""  # the text before the turn, which ends with the template's opening of the turn

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema], /) -> Completion:
        """Write the next assistant message.

        Raises:
            OutOfTokens: There is no room left for another turn.
            PolicyError: The policy has played another episode before.
        """
        added = self._read(messages, tools)
        room = self._max_tokens - len(self.track.completion_ids) - len(added)
        asked = min(room, self._max_turn_tokens)
        prompt_ids = self.track.ids
        prompt_ids += added
        sampled = await self._sample(prompt_ids, max_tokens=asked)
        self.track.append(added)  # only now, so that the track ends with a turn if the engine can't go on
        ids = self._turn_ids = sampled.ids[:asked]  # an engine may return more than it was asked for
        logprobs = None if sampled.logprobs is None else sampled.logprobs[:asked]
        self.track.sample(ids, logprobs, given=sampled.prompt_ids)
        message = self._template.parse(ids, opened=self._opened, tools=tools, turn=len(messages))
        self._seen = len(messages) + 1
        cut = sampled.finish_reason == "length" or len(ids) < len(sampled.ids)
        if cut and (len(ids) == room or len(ids) < asked):  # of all tokens, or of the engine's context
            return Completion(message, "length", self.track)
        return Completion(message, "tool_calls" if message.get("tool_calls") else "stop", self.track)

    def _read(self, messages: Sequence[Message], tools: Sequence[ToolSchema]) -> Sequence[int]:
        """The tokens of the environment's messages since the last turn."""
        if len(messages) < self._seen:
            raise PolicyError("a TokenizedPolicy plays one episode; make a new one for the next")
        if not self._seen:
            self._opened, self.track.prompt_ids[:] = self._template.prompt(messages, tools)
            return ()
        turn, *added = messages[self._seen - 1 :]
        self._opened, ids = self._template.continuation(turn, added, sampled=self._turn_ids)
        if len(self.track.completion_ids) + len(ids) >= self._max_tokens:
            raise OutOfTokens(f"the completion's {self._max_tokens} tokens leave no room for another turn")
        return ids


def trained_track(rollout: Rollout, template: ChatTemplate) -> TokenTrack:
    """The tokens for the loss; in a failed rollout none counts, but trainers need at least one.

    Args:
        rollout: Rollout that a TokenizedPolicy played, or that failed before its first turn.
        template: Chat template of the model.
    """
    track = rollout.tokens
    if track is None:
        opening = rollout.output or rollout.task.prompt or [user("")]
        track = TokenTrack(prompt_ids=list(template.prompt(opening, rollout.tools).ids))
    if not track.completion_ids:
        track = replace(track, completion_ids=[template.eos_id], mask=[0], logprobs=[0.0])
    if rollout.reward is None or track.broken:
        track = replace(track, mask=[0] * len(track.mask))
    return track
