"""TRL: environments as the train_dataset, reward_funcs, environment_factory and rollout_func of its trainers."""

from importlib.util import find_spec

from gym_adapters.trl.dataset import gym_dataset
from gym_adapters.trl.environment import gym_environment
from gym_adapters.trl.reward import gym_reward

if not find_spec("trl") or find_spec("trl.chat_template_utils"):  # Unsloth's users may have TRL 0.22: single turns
    from gym_adapters.trl.checks import add_tool_template, preflight
    from gym_adapters.trl.rollouts import gym_rollout

__all__ = ["add_tool_template", "gym_dataset", "gym_environment", "gym_reward", "gym_rollout", "preflight"]
