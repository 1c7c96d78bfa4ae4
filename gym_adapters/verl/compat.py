"""All names of verl that the adapter uses, except those in `plugin`; if a newer verl moves one, this module fails."""

from gym_core import MissingDependencyError

try:
    import transfer_queue
    from verl import DataProto
    from verl.experimental.agent_loop.agent_loop import (
        AgentLoopBase,
        AgentLoopOutput,
        AgentLoopWorker,
        _agent_loop_registry,  # read by `doctor` only
    )
    from verl.experimental.agent_loop.tool_parser import ToolParser
    from verl.tools.schemas import OpenAIFunctionToolSchema
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY
    from verl.trainer.ppo.reward import get_custom_reward_fn
    from verl.trainer.ppo.utils import create_rl_dataset
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync
    from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn
    from verl.workers.rollout.replica import TokenOutput
except ImportError as error:
    raise MissingDependencyError("verl") from error

__all__ = [
    "AgentLoopBase",
    "AgentLoopOutput",
    "AgentLoopWorker",
    "DataProto",
    "OpenAIFunctionToolSchema",
    "RLHFDataset",
    "ReplayBuffer",
    "ReplayBufferAsync",
    "TokenOutput",
    "ToolParser",
    "collate_fn",
    "create_rl_dataset",
    "get_custom_reward_fn",
    "registered_agent_loops",
    "registered_estimators",
    "transfer_queue",
]


def registered_agent_loops() -> list[str]:
    """The names of the agent loops that verl knows in this process."""
    return list(_agent_loop_registry)


def registered_estimators() -> list[str]:
    """The names of the advantage estimators that verl knows in this process."""
    return list(ADV_ESTIMATOR_REGISTRY)
