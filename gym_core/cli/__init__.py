"""The command `gym-core`."""

from gym_core.cli.commands import main

__all__ = ["main"]
