"""The command `gym-core`."""

from gym_core.cli.commands import argument, main

__all__ = ["argument", "main"]
