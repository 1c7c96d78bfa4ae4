"""How verl starts the transformers rollout server, and passes it the trainer's weights."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from verl.plugin.platform import get_platform
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica
from verl.workers.rollout.utils import ensure_async_iterator

from gym_adapters.verl.testing.server import TransformersServer


def _server_name(replica_rank: int) -> str:
    return f"transformers_server_{replica_rank}"


def _place(worker: Any) -> tuple[str, str]:
    """The node of a Ray actor, and its device on that node."""
    context = ray.get_runtime_context()
    return context.get_node_id(), context.get_accelerator_ids()[get_platform().ray_resource_name()][0]


class TransformersReplica(RolloutReplica):  # type: ignore[misc]  # verl is untyped
    """One server: a Ray actor on the device of the worker it belongs to."""

    async def launch_servers(self) -> None:
        """Start the server.

        Raises:
            ValueError: The server would need several devices.
        """
        if self.world_size != 1:
            raise ValueError(
                f"a transformers rollout server has one device, not {self.world_size}: set "
                "actor_rollout_ref.rollout.tensor_model_parallel_size and data_parallel_size to 1"
            )
        platform = get_platform()
        node, device = await self.workers[0].__ray_call__.remote(_place)
        visible = {platform.visible_devices_envvar(): device, **dict.fromkeys(platform.ray_noset_envvars(), "1")}
        server = (
            ray.remote(TransformersServer)
            .options(
                name=_server_name(self.replica_rank),
                num_cpus=0,
                max_concurrency=self.max_concurrency,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
                runtime_env={"env_vars": visible},
            )
            .remote(self.config, self.model_config, replica_rank=self.replica_rank)
        )
        await server.ready.remote()
        self.servers = [server]
        self._server_handle = server
        self._server_address = _server_name(self.replica_rank)


class TransformersRollout(BaseRollout):  # type: ignore[misc]  # verl is untyped
    """The server's counterpart in a worker of the trainer."""

    def __init__(self, config: Any, model_config: Any, device_mesh: Any, replica_rank: int = -1) -> None:
        super().__init__(config, model_config, device_mesh)
        self.replica_rank = int(os.environ["RANK"]) if replica_rank == -1 else replica_rank
        self.is_leader_rank = True

    async def resume(self, tags: list[str]) -> None:
        """Do nothing: nothing was released."""

    async def release(self) -> None:
        """Do nothing: the server keeps its weights."""

    async def update_weights(
        self, weights: Any, wire_format: str = "named_tensors", *, global_steps: int | None = None, **_: Any
    ) -> None:
        """Send the weights through Ray, a few megabytes at a time.

        Raises:
            ValueError: The trainer sends differences of weights.
        """
        if wire_format != "named_tensors":
            raise ValueError(f"a transformers rollout server takes whole weights, not {wire_format!r}")
        server = ray.get_actor(_server_name(self.replica_rank))
        async for some in _buckets(weights, self.config.checkpoint_engine.update_weights_bucket_megabytes << 20):
            await server.update_weights.remote(some)
        if global_steps is not None:
            await server.set_global_steps.remote(global_steps)


async def _buckets(weights: Any, size_bytes: int) -> AsyncIterator[dict[str, torch.Tensor]]:
    """Named tensors on the CPU, in dicts that are just larger than a size."""
    bucket: dict[str, torch.Tensor] = {}
    async for name, weight in ensure_async_iterator(weights):
        bucket[name] = weight.detach().cpu()
        if sum(tensor.nbytes for tensor in bucket.values()) >= size_bytes:
            yield bucket
            bucket = {}
    if bucket:
        yield bucket
