"""What plays: the episode, the groups of a task, replays, and the one event loop where they live."""

from gym_core.episodes.episode import Episode, open_episode, rollout
from gym_core.episodes.groups import group_key, has_group_verifier, judges_groups, verify_groups
from gym_core.episodes.loop import submit
from gym_core.episodes.replay import verify, verify_episode

__all__ = [
    "Episode",
    "group_key",
    "has_group_verifier",
    "judges_groups",
    "open_episode",
    "rollout",
    "submit",
    "verify",
    "verify_episode",
    "verify_groups",
]
