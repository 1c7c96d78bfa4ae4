"""Playing environments: the episode, groups of rollouts, replays, and the one event loop where they live."""

from gym_core.episodes.episode import Episode
from gym_core.episodes.groups import group_key, verify_groups
from gym_core.episodes.loop import run, submit
from gym_core.episodes.playing import open_episode, rollout
from gym_core.episodes.replay import begins_alike, verify, verify_conversation
from gym_core.episodes.requirements import Needs, needs

__all__ = [
    "Episode",
    "Needs",
    "begins_alike",
    "group_key",
    "needs",
    "open_episode",
    "rollout",
    "run",
    "submit",
    "verify",
    "verify_conversation",
    "verify_groups",
]
