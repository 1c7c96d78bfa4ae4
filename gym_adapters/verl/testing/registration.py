"""Puts the rollout server into verl's registries, and the CPU into that of its engines, when it is imported.

On GPUs VERL_USE_EXTERNAL_MODULES names this module.
"""

from verl.workers.engine import EngineRegistry, FSDPEngineWithLMHead
from verl.workers.rollout.base import _ROLLOUT_REGISTRY  # verl has no function for it
from verl.workers.rollout.replica import RolloutReplica, RolloutReplicaRegistry

ROLLOUT_NAME = "transformers"


def _replica() -> type[RolloutReplica]:
    from gym_adapters.verl.testing.rollout import TransformersReplica

    return TransformersReplica


EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cpu")(FSDPEngineWithLMHead)
RolloutReplicaRegistry.register(ROLLOUT_NAME, _replica)
_ROLLOUT_REGISTRY[ROLLOUT_NAME, "async"] = "gym_adapters.verl.testing.rollout.TransformersRollout"
