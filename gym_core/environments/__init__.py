"""What an author writes and gets: environments, tasks and tools; scores and rollouts."""

from gym_core.environments.environment import Environment, EnvironmentFactory, Score
from gym_core.environments.mixes import Mix, as_environment, load_environment, members, mix
from gym_core.environments.records import read_rollouts, rollout_from_row, write_rollouts
from gym_core.environments.rollouts import ErrorKind, Rollout, RolloutError, StopReason
from gym_core.environments.tasks import Task, jsonl
from gym_core.environments.tools import Tool, tool

__all__ = [
    "Environment",
    "EnvironmentFactory",
    "ErrorKind",
    "Mix",
    "Rollout",
    "RolloutError",
    "Score",
    "StopReason",
    "Task",
    "Tool",
    "as_environment",
    "jsonl",
    "load_environment",
    "members",
    "mix",
    "read_rollouts",
    "rollout_from_row",
    "tool",
    "write_rollouts",
]
