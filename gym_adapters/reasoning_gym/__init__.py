"""reasoning-gym: its procedural tasks as environments."""

import importlib
import warnings

from gym_core.errors import MissingDependencyError

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # its dependency cellpylib has four of them
        importlib.import_module("reasoning_gym")
except ImportError as error:
    raise MissingDependencyError("reasoning-gym") from error

from gym_adapters.reasoning_gym.environment import ReasoningGym, reasoning_gym

__all__ = ["ReasoningGym", "reasoning_gym"]
