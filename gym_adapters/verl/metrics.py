"""Metrics: the numbers of a rollout beside its reward, under the same names for all environments of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan, nan

from gym_core import Rollout

_RENAMED = {"reward": "reward_component"}
"""verl's validation has its own `reward`, and would mix ours into it."""


def reward_extra_info(rollout: Rollout, components: Sequence[str], *, score: float) -> dict[str, float]:
    """The metrics of one rollout; verl's validation shows `acc` first.

    Args:
        rollout: Finished rollout. If it has no reward, `unscored` is 1.0.
        components: Names of the components to report; NaN for those that this rollout lacks. Others are left out.
        score: Reward of the rollout, or its substitute: verl, which can also filter groups by `score` or `acc`, has no
            missing numbers.
    """
    parts = {_RENAMED.get(name, name): rollout.components.get(name, nan) for name in components}
    return {"score": score, "acc": score, **parts, **rollout.rates, "unscored": float(rollout.reward is None)}


def means(infos: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over rollouts of one environment, ignoring missing numbers.

    Of an unscored rollout, `unscored` and the rates count, but not the score and its components.
    """
    found: dict[str, list[float]] = {}
    for info in infos:
        for name, value in info.items():
            known = not (isnan(value) or (info.get("unscored") and name in ("score", "acc")))
            found.setdefault(name, []).extend([value] if known else [])
    return {name: sum(values) / len(values) for name, values in found.items() if values}
