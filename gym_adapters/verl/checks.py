"""Checks of verl's configuration: entries that it accepts and ignores, or that can't work with environments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gym_adapters.verl.compat import registered_agent_loops, registered_estimators
from gym_core import GymError

_MOVED = {
    "custom_reward_function": "reward.custom_reward_function",
    "reward_model.reward_manager": "reward.reward_manager.name",
    "reward_model.reward_loop_source": "reward.reward_manager.source",
    "reward_model.reward_loop_module_path": "reward.reward_manager.module.path",
    "reward_model.reward_loop_class_name": "reward.reward_manager.name",
    "reward_model.num_workers": "reward.num_workers",
    "reward_model.model.path": "reward.reward_model.model_path",
    "reward_model": "reward.reward_model",
    "sandbox_fusion": "reward.sandbox_fusion",
}
"""Groups of entries without effect since verl 0.9, and their replacements; the longest matching name counts."""


def problems(config: Any) -> Iterator[str]:
    """The problems of a composed configuration, one sentence each."""
    yield from _registrations()
    yield from _ignored(config)
    rollout = config.actor_rollout_ref.rollout
    if manager := rollout.agent.get("agent_loop_manager_class"):
        yield (
            f"agent_loop_manager_class={manager} replaces the workers that play agent loops, and those made for verl "
            "0.8 and earlier fail in 0.9, which passes them other arguments: remove it"
        )
    if rollout.agent.default_agent_loop != "gym":
        return
    for name in ("tool_config_path", "function_tool_path"):
        if rollout.multi_turn.get(name):
            yield f"multi_turn.{name} is ignored by the agent loop 'gym': the tools are those of the environment"
    for name in ("max_assistant_turns", "max_user_turns"):
        if rollout.multi_turn.get(name):
            yield f"multi_turn.{name} is ignored by the agent loop 'gym': set max_turns of the environment"


def advice(config: Any) -> Iterator[str]:
    """Possible improvements of a configuration, one sentence each."""
    if config.algorithm.adv_estimator != "gym_grpo":
        yield (
            f"algorithm.adv_estimator is {config.algorithm.adv_estimator}, which treats failed rollouts as rollouts "
            "with the mean reward of their group; gym_grpo leaves them out"
        )
    sampler = config.trainer.v1.sampler
    if (sampler.custom_sampler or {}).get("name") != "gym_sampler":
        yield "no gym/* metrics in training: set trainer.v1.sampler.custom_sampler as the command `overrides` prints"
    elif (config.algorithm.get("filter_groups") or {}).get("enable") and not sampler.sampler_kwargs:
        yield (
            "verl does not pass algorithm.filter_groups to custom samplers: "
            "set +trainer.v1.sampler.sampler_kwargs.filter_groups_metric=reward"
        )
    if not config.trainer.use_v1:
        yield "trainer.use_v1=false is the deprecated trainer: it has no gym/* metrics and judges no groups together"


def _registrations() -> Iterator[str]:
    cure = "reinstall gym-adapters, and unset VERL_USE_EXTERNAL_PLUGINS or add gym_adapters to it"
    if "gym" not in registered_agent_loops():
        yield f"verl has not loaded our plug-in, so it knows no agent loop 'gym': {cure}"
    elif "gym_grpo" not in registered_estimators():
        yield f"verl has not loaded all of our plug-in, so it knows no estimator 'gym_grpo': {cure}"


def _ignored(config: Any) -> Iterator[str]:
    for group in ("custom_reward_function", "reward_model", "sandbox_fusion"):
        for name in _set(config.get(group) or {}, group):
            old = max((old for old in _MOVED if f"{name}.".startswith(f"{old}.")), key=len)
            new = f"{_MOVED[old]}{name.removeprefix(old)}"
            yield f"{name} is ignored since verl 0.9, and nothing says so: use {new}"


def _set(group: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """The entries that are not null; by default all are."""
    for name, value in group.items():
        if isinstance(value, Mapping):
            yield from _set(value, f"{prefix}.{name}")
        elif value is not None:
            yield f"{prefix}.{name}"


def composed(overrides: list[str]) -> Any:
    """Compose the configuration as main_ppo would from its arguments.

    Raises:
        GymError: An entry does not exist or has a wrong value.
    """
    from hydra import compose, initialize_config_module
    from hydra.errors import HydraException

    try:
        with initialize_config_module(config_module="verl.trainer.config", version_base=None):
            return compose(config_name="ppo_trainer", overrides=overrides)
    except HydraException as error:
        sentence = " ".join(str(error).split())
        raise GymError(f"main_ppo would refuse these entries: {sentence}{_removed(overrides)}") from error


def _removed(overrides: list[str]) -> str:
    names = [name for name in _REMOVED if any(name in override for override in overrides)]
    return "".join(f"; {name}: {_REMOVED[name]}" for name in names)


_REMOVED = {
    "interaction_config_path": "interactions were removed in verl 0.8, an environment's `respond` is its user turns",
}
