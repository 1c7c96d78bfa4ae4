"""Puts the kit into verl's registries when it is imported: a rollout server, an engine and, for CPUs, a platform.

`VERL_USE_EXTERNAL_MODULES` names this module; `import verl` then imports it in every process of a run.
"""

import importlib
import os

if os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu":
    importlib.import_module("gym_adapters.verl.testing.cpu_platform")  # first: verl's workers ask for the platform

from verl.workers.engine import EngineRegistry, FSDPEngineWithLMHead
from verl.workers.rollout.base import _ROLLOUT_REGISTRY  # verl has no function for this
from verl.workers.rollout.replica import RolloutReplica, RolloutReplicaRegistry

ROLLOUT_NAME = "transformers"


def _replica() -> type[RolloutReplica]:
    from gym_adapters.verl.testing.replica import TransformersReplica

    return TransformersReplica


EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cpu")(FSDPEngineWithLMHead)
RolloutReplicaRegistry.register(ROLLOUT_NAME, _replica)
_ROLLOUT_REGISTRY[ROLLOUT_NAME, "async"] = "gym_adapters.verl.testing.replica.TransformersRollout"
