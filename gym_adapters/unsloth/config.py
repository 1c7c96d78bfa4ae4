"""Settings of Unsloth runs, including all defaults that Unsloth changes."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from trl import GRPOConfig

from gym_core import GymError

STATED: Mapping[str, Any] = {
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "eval_accumulation_steps": None,
    "learning_rate": 5e-6,
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "optim": "adamw_8bit",
    "torch_empty_cache_steps": None,
    "logging_steps": 1,
    "logging_nan_inf_filter": True,
    "seed": 3407,
    "report_to": "none",
    "output_dir": "outputs",
}
"""Settings to which Unsloth 2026.10 gives other defaults than TRL, or none; with them its backends run the same.

`bf16` is left out: it follows the dtype of the model. `adamw_8bit` becomes `adamw_torch_fused` on a CPU.
"""

STATED_FOR_GRPO: Mapping[str, Any] = {
    "num_generations": 8,
    "beta": 0.0,
    "loss_type": "dapo",
    "mask_truncated_completions": False,
    "router_aux_loss_coef": None,
    "generation_kwargs": None,
    "vllm_importance_sampling_correction": False,
}
"""The same for settings that only GRPOConfig has."""

_PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def grpo_config(*, max_seq_length: int, max_prompt_tokens: int, **settings: Any) -> GRPOConfig:
    """Make the `args` of GRPOTrainer.

    Args:
        max_seq_length: The value that `FastLanguageModel.from_pretrained` gets.
        max_prompt_tokens: The value that `gym_dataset` gets; the rest of the sequence is `max_completion_length`.
        settings: Settings of GRPOConfig; they replace those of `STATED`.

    Raises:
        GymError: GRPOConfig has no such setting (on a GPU, Unsloth would only warn); a step is not a whole number of
            groups (Unsloth would enlarge the batch); or there is no room for a completion.
    """
    stated = {**STATED, **STATED_FOR_GRPO, "max_prompt_length": None}  # before TRL 0.28, which would cut prompts to 512
    room = max_seq_length - max_prompt_tokens
    checked = with_stated(GRPOConfig, {"max_completion_length": room, **settings}, stated)
    if not 0 < checked["max_completion_length"] <= room:
        raise GymError(
            f"max_completion_length is {checked['max_completion_length']}, expected 1 to {room}: max_seq_length is "
            f"{max_seq_length}, of which prompts take up to {max_prompt_tokens}"
        )
    _check_groups(checked)
    return GRPOConfig(**checked)


def lora_defaults(rank: int) -> dict[str, Any]:
    """The arguments of `FastLanguageModel.get_peft_model` that Unsloth's notebooks use.

    Args:
        rank: Rank of the adapters; `lora_alpha` is twice the rank.
    """
    return {
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(_PROJECTIONS),
        "use_gradient_checkpointing": "unsloth",
        "random_state": 3407,
    }


def with_stated(config: type, settings: Mapping[str, Any], stated: Mapping[str, Any] = STATED) -> dict[str, Any]:
    """Settings for a config class of TRL, including those of `stated` that it has.

    Raises:
        GymError: The class has no such setting.
    """
    known = _names(config)
    for name in settings:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            raise GymError(f"{config.__name__} has no setting {name!r}{meant}")
    return {name: value for name, value in stated.items() if name in known} | dict(settings)


def _names(config: type) -> list[str]:
    """The settings of a config class; Unsloth's `__init__` also accepts anything else, as `kwargs`."""
    parameters = inspect.signature(config).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is not inspect.Parameter.VAR_KEYWORD]


def _check_groups(settings: Mapping[str, Any]) -> None:
    batch, steps = settings["per_device_train_batch_size"], settings["gradient_accumulation_steps"]
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    group = settings["num_generations"]
    if batch * steps * ranks % group:
        raise GymError(
            f"per_device_train_batch_size {batch} x gradient_accumulation_steps {steps} x {ranks} ranks is "
            f"{batch * steps * ranks} rollouts per step, expected a multiple of num_generations, which is {group}"
        )
