"""Options of the agent loop, from `actor_rollout_ref.rollout.custom.gym`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from gym_core import GymError

KEY = "actor_rollout_ref.rollout.custom.gym"


@dataclass(frozen=True)
class Options:
    """Settings of a run by `+actor_rollout_ref.rollout.custom.gym.<name>=...`.

    Attributes:
        max_concurrency: Most rollouts that an agent loop worker plays at once; verl itself starts all of its share.
        max_turn_tokens: Most tokens per turn; None for all that the response has left.
        rollouts_dir: Folder in which each worker process appends its rollouts to a JSONL file; None writes none.
        actors: Options of the Ray actors that the environments live in, see `actors.in_actor`; None for the worker.
    """

    max_concurrency: int = 256
    max_turn_tokens: int | None = None
    rollouts_dir: str | None = None
    actors: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("max_concurrency", "max_turn_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise GymError(f"{KEY}.{name} must be at least 1, not {value}")


def options_of(rollout_config: Any) -> Options:
    """Read the options of a run.

    Raises:
        GymError: There is no such option.
    """
    given = dict((rollout_config.get("custom") or {}).get("gym") or {})
    names = [field.name for field in fields(Options)]
    if unknown := [name for name in given if name not in names]:
        raise GymError(f"{KEY} has no option {unknown[0]!r}; the options are {', '.join(names)}")
    return Options(**given)
