"""The sampler of verl's trainer, which adds the metrics of environments at every step."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from gym_adapters.verl.compat import ReplayBuffer, ReplayBufferAsync, transfer_queue
from gym_adapters.verl.metrics import means


class _Logging:
    """Adds `gym/<environment>/...` to the metrics of each batch for training; verl logs them in validation only."""

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[Any, dict[str, Any]]:
        """A batch, and the metrics that verl logs for it."""
        batch, metrics = super().sample(  # type: ignore[misc]  # verl's, beside which this class stands
            global_steps=global_steps, partition_id=partition_id, batch_size=batch_size
        )
        if partition_id != "train" or not batch.keys:
            return batch, metrics
        fields = transfer_queue.kv_batch_get(
            keys=batch.keys, partition_id=partition_id, select_fields=["data_source", "extra_fields"]
        )
        infos: dict[str, list[dict[str, float]]] = defaultdict(list)
        for source, extra in zip(_values(fields["data_source"]), _values(fields["extra_fields"]), strict=True):
            infos[source].append(extra.get("reward_extra_info") or {})
        return batch, metrics | {
            f"{source}/{name}": mean
            for source, of_source in infos.items()
            if source.startswith("gym/")
            for name, mean in means(of_source).items()
        }


class _GymReplayBuffer(_Logging, ReplayBuffer):  # type: ignore[misc]
    """verl's sampler of the sync trainer."""


class _GymReplayBufferAsync(_Logging, ReplayBufferAsync):  # type: ignore[misc]
    """verl's sampler of the async trainers."""


def gym_sampler(*, trainer_mode: str, sampler_kwargs: Any, **kwargs: Any) -> ReplayBuffer:
    """The sampler of verl's trainer, for `trainer.v1.sampler.custom_sampler.{path,name}`.

    Args:
        trainer_mode: Mode of the trainer: "sync", or one of the async modes.
        sampler_kwargs: Content of `trainer.v1.sampler.sampler_kwargs`. verl passes nothing of `algorithm.filter_groups`
            to a custom sampler; `filter_groups_metric` and its other arguments can be set here.
        kwargs: Arguments that verl passes to a sampler.
    """
    kind = _GymReplayBuffer if trainer_mode == "sync" else _GymReplayBufferAsync
    return kind(trainer_mode=trainer_mode, sampler_kwargs=sampler_kwargs, **{**kwargs, **(sampler_kwargs or {})})


def _values(column: Any) -> list[Any]:
    """A column of objects, which tensordict wraps one by one."""
    return [getattr(value, "data", value) for value in column]
