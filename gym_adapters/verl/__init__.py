"""veRL: environments for the stock trainer `python -m verl.trainer.main_ppo`, through config entries alone."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gym_adapters.verl.advantages import gym_grpo
    from gym_adapters.verl.agent_loop import GymAgentLoop
    from gym_adapters.verl.dataset import GymDataset
    from gym_adapters.verl.reward import compute_score
    from gym_adapters.verl.sampler import gym_sampler

__all__ = ["GymAgentLoop", "GymDataset", "compute_score", "gym_grpo", "gym_sampler"]

_MODULES = {
    "GymAgentLoop": "agent_loop",
    "GymDataset": "dataset",
    "compute_score": "reward",
    "gym_grpo": "advantages",
    "gym_sampler": "sampler",
}
"""Modules that are imported on demand, since verl loads plug-ins while it is being imported itself."""


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(importlib.import_module(f"gym_adapters.verl.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
