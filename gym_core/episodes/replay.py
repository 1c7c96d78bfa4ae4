"""Replay: scoring a conversation that was played elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from gym_core.environments import Environment, Rollout
from gym_core.episodes.boundary import Boundary
from gym_core.episodes.episode import Episode
from gym_core.episodes.hooks import check_conversation
from gym_core.episodes.requirements import needs
from gym_core.errors import EpisodeError
from gym_core.messages import Message, text
from gym_core.policies import Completion


async def verify(env: Environment, messages: Sequence[Message]) -> Rollout:
    """Score a finished conversation in a fresh environment.

    If the environment has tools, answers as a user or makes its opening, the conversation is replayed to restore the
    environment's state: tools run again. A replay in which the environment says something else has no reward.
    """
    return await verify_conversation(Episode(env), messages)


async def verify_conversation(episode: Episode, messages: Sequence[Message]) -> Rollout:
    """Do the same as `verify` for an episode that is not opened yet."""
    async with episode:
        found = needs(episode)
        if found.tools or found.user_turns or found.opening:
            with Boundary() as boundary:
                await _replay(episode, messages)
            if boundary.failure is not None:
                episode.fail("replay", boundary.failure)
        await episode.finish(messages)
    return episode.rollout


async def _replay(episode: Episode, messages: Sequence[Message]) -> None:
    """Play the assistant messages of a conversation again, and compare what the environment says.

    Raises:
        EpisodeError: The environment says something else, or less. It may say more if the conversation was cut off.
    """
    check_conversation(messages)
    for message in messages[len(episode.messages) :]:
        if message["role"] == "assistant" and not episode.done:
            await episode.step(Completion(message))
    for position, (said, recorded) in enumerate(zip(episode.messages, messages, strict=False)):
        if not _same(said, recorded):
            raise EpisodeError(
                f"message {position} is {text(said)!r} in the replay, {text(recorded)!r} in the conversation"
            )
    for position, recorded in enumerate(messages[len(episode.messages) :], start=len(episode.messages)):
        if recorded["role"] != "assistant":
            raise EpisodeError(
                f"message {position} is {text(recorded)!r} in the conversation, but the replay ends before it"
            )


def begins_alike(opening: Sequence[Message], messages: Sequence[Message]) -> bool:
    """Whether a conversation begins with the environment's opening."""
    return len(opening) <= len(messages) and all(_same(*pair) for pair in zip(opening, messages, strict=False))


def _same(said: Message, recorded: Message) -> bool:
    """Whether two messages say the same; two refusals of a tool call do, because trainers word their own."""
    refusals = ('{"error"', "{'error'")
    if said["role"] == recorded["role"] == "tool" and all(text(m).startswith(refusals) for m in (said, recorded)):
        return True
    return (said["role"], text(said)) == (recorded["role"], text(recorded))
