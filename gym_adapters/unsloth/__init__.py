"""Unsloth: the functions of `gym_adapters.trl`, and what a LoRA run needs around them, imported in order."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gym_adapters.trl import add_tool_template, gym_environment, gym_rollout, preflight
    from gym_adapters.unsloth.config import grpo_config, lora_defaults
    from gym_adapters.unsloth.dataset import gym_dataset
    from gym_adapters.unsloth.masks import check_masks
    from gym_adapters.unsloth.playing import mean_reward, rollout_with_model
    from gym_adapters.unsloth.reward import gym_reward
    from gym_adapters.unsloth.saving import save_all
    from gym_adapters.unsloth.warmup import sft_warmup

__all__ = [
    "add_tool_template",
    "check_masks",
    "grpo_config",
    "gym_dataset",
    "gym_environment",
    "gym_reward",
    "gym_rollout",
    "lora_defaults",
    "mean_reward",
    "preflight",
    "rollout_with_model",
    "save_all",
    "sft_warmup",
]

_ANY_TRL = {
    "check_masks": "gym_adapters.unsloth.masks",
    "grpo_config": "gym_adapters.unsloth.config",
    "gym_dataset": "gym_adapters.unsloth.dataset",
    "gym_reward": "gym_adapters.unsloth.reward",
    "lora_defaults": "gym_adapters.unsloth.config",
}
_NEW_TRL = {
    "add_tool_template": "gym_adapters.trl",
    "gym_environment": "gym_adapters.trl",
    "gym_rollout": "gym_adapters.trl",
    "mean_reward": "gym_adapters.unsloth.playing",
    "preflight": "gym_adapters.trl",
    "rollout_with_model": "gym_adapters.unsloth.playing",
    "save_all": "gym_adapters.unsloth.saving",
    "sft_warmup": "gym_adapters.unsloth.warmup",
}


def __getattr__(name: str) -> Any:
    """Load a name on demand, so that `doctor` also runs if Unsloth can't be imported.

    Raises:
        GymError: Unsloth was not imported first, or TRL is too old for this name.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    imports = importlib.import_module("gym_adapters.unsloth.imports")
    imports.check_import_order()
    if name in _NEW_TRL:
        imports.check_trl(name)
    return getattr(importlib.import_module((_ANY_TRL | _NEW_TRL)[name]), name)
