"""Metrics: what verl is told of a rollout beside its reward, the same numbers for all environments of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan, nan

from gym_core import Rollout

_RENAMED = {"reward": "reward_component"}
"""verl's validation has a `reward` of its own, and would count ours into it."""


def reward_extra_info(rollout: Rollout, components: Sequence[str], *, score: float) -> dict[str, float]:
    """The metrics of one rollout; `acc` is what verl's validation shows first.

    Args:
        rollout: Finished. Where it has no reward, `unscored` is 1.0.
        components: The names to give; NaN for those that this rollout does not have. Others are left out.
        score: Its reward, or what stands for it: verl, which also filters groups by `score` or `acc`, knows no missing
            numbers.
    """
    parts = {_RENAMED.get(name, name): rollout.components.get(name, nan) for name in components}
    return {"score": score, "acc": score, **parts, **rollout.rates, "unscored": float(rollout.reward is None)}


def means(infos: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over rollouts of one environment, without the numbers that are not there.

    Of an unscored rollout count `unscored` and the rates, which are known; its score and components are not.
    """
    found: dict[str, list[float]] = {}
    for info in infos:
        for name, value in info.items():
            known = not (isnan(value) or (info.get("unscored") and name in ("score", "acc")))
            found.setdefault(name, []).extend([value] if known else [])
    return {name: sum(values) / len(values) for name, values in found.items() if values}
