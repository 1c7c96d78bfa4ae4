"""Groups of rollouts that span several ranks of a run."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any

from torch import distributed

from gym_core import EnvironmentFactory, Rollout
from gym_core.driving import group_key, verify_groups


async def verify_groups_of_ranks(env: EnvironmentFactory, rollouts: Sequence[Rollout]) -> list[Rollout]:
    """Do the same as `verify_groups` for the rollouts of this rank; all ranks call it at the same time.

    Only rollouts of groups that span several ranks are sent; the first of these ranks judges the group for all.
    """
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return await verify_groups(env, rollouts)
    keys = [group_key(rollout) for rollout in rollouts]
    ranks_of: dict[tuple[str, str], list[int]] = defaultdict(list)
    for rank, present in enumerate(await _gather(sorted(set(keys)))):
        for key in present:
            ranks_of[key].append(rank)
    if all(len(ranks) == 1 for ranks in ranks_of.values()):
        return await verify_groups(env, rollouts)

    here = distributed.get_rank()
    spread = {position: rollouts[position] for position, key in enumerate(keys) if len(ranks_of[key]) > 1}
    places = [
        ((rank, position), rollout)
        for rank, theirs in enumerate(await _gather(spread))
        for position, rollout in theirs.items()
        if ranks_of[group_key(rollout)][0] == here
    ]
    places += [((here, position), rollout) for position, rollout in enumerate(rollouts) if position not in spread]
    judged = await verify_groups(env, [rollout for _, rollout in places])
    verdicts = {place: rollout for (place, _), rollout in zip(places, judged, strict=True)}
    travelling = {place: rollout for place, rollout in verdicts.items() if place[0] != here}
    for theirs in await _gather(travelling):
        verdicts |= theirs
    return [verdicts[here, position] for position in range(len(rollouts))]


async def _gather(value: Any) -> list[Any]:
    """The values of all ranks, by rank; waits for all of them."""
    gathered: list[Any] = [None] * distributed.get_world_size()
    await asyncio.to_thread(distributed.all_gather_object, gathered, value, group=_processes())
    return gathered


@cache
def _processes() -> Any:
    """All ranks, connected by gloo: objects need no GPU, and NCCL would need to know which GPU is this thread's."""
    return distributed.new_group(backend="gloo")
