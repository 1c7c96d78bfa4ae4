"""Replay: the score of a conversation that has already been had."""

from __future__ import annotations

from collections.abc import Sequence

from gym_core.environments import Environment, Rollout
from gym_core.episodes.episode import Episode
from gym_core.errors import EpisodeError
from gym_core.messages import Message, text
from gym_core.policies import Completion


async def verify(env: Environment, messages: Sequence[Message]) -> Rollout:
    """Score a finished conversation in a fresh environment.

    Where the environment has tools or answers as a user, the conversation is replayed, so that its state is what it
    was: tools run again. A replay in which the environment says something else has no reward.
    """
    return await verify_episode(Episode(env), messages)


async def verify_episode(episode: Episode, messages: Sequence[Message]) -> Rollout:
    """The same as `verify`, for an episode that is not opened yet."""
    async with episode:
        if episode.env.tools or type(episode.env).respond is not Environment.respond:
            await _replay(episode, messages)
        await episode.finish(messages)
    return episode.rollout


async def _replay(episode: Episode, messages: Sequence[Message]) -> None:
    """Play the assistant messages of a conversation again, and compare what the environment says."""
    for message in messages[len(episode.messages) :]:
        if message["role"] == "assistant" and not episode.done:
            await episode.step(Completion(message))
    for position, (said, recorded) in enumerate(zip(episode.messages, messages, strict=False)):
        if not _same(said, recorded):
            sentence = f"message {position} is {text(said)!r} in the replay, {text(recorded)!r} in the conversation"
            episode.fail("replay", EpisodeError(sentence))
            return


def _same(said: Message, recorded: Message) -> bool:
    """Whether two messages say the same; refusals of a tool call may, because trainers word their own."""
    refusals = ('{"error"', "{'error'")
    if said["role"] == recorded["role"] == "tool" and all(text(m).startswith(refusals) for m in (said, recorded)):
        return True
    return (said["role"], text(said)) == (recorded["role"], text(recorded))
