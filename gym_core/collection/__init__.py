"""Many rollouts: every task of an environment played by one policy."""

from gym_core.collection.collector import collect

__all__ = ["collect"]
