"""GRPO advantages for groups in which some rollouts are not valid."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch

MIN_VALID = 2
"""Least number of valid rollouts per group: a single one can't be compared."""


def gym_grpo(
    token_level_rewards: torch.Tensor,
    response_mask: torch.Tensor,
    index: Sequence[Any],
    config: Any = None,
    epsilon: float = 1e-6,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Advantages as in GRPO (arXiv:2402.03300, section 4.1.2), over the valid rollouts of each group only.

    A row is valid if the policy sampled a token that counts; in a failed rollout none does. Groups with fewer than two
    valid rows have no advantage, whereas verl's "grpo" gives a group of one its reward as advantage.

    Args:
        token_level_rewards: Rewards of shape (rows, tokens); the reward of a row is their sum.
        response_mask: Mask of the same shape; 1 where a token counts.
        index: Group of each row.
        config: The trainer's `algorithm`; if its `norm_adv_by_std_in_grpo` is false, advantages are not divided by the
            standard deviation (Dr. GRPO, arXiv:2503.20783).
        epsilon: Small number that keeps the division finite.

    Returns:
        The advantages, of the same shape, twice: without a critic they are also the returns.
    """
    normalized = config is None or config.get("norm_adv_by_std_in_grpo", True)
    with torch.no_grad():
        rewards = token_level_rewards.sum(dim=-1)
        advantages = torch.zeros_like(rewards)
        for rows in _valid_groups(index, response_mask):
            group = rewards[rows]
            advantages[rows] = group - group.mean()
            if normalized:
                advantages[rows] /= group.std() + epsilon
        spread = advantages.unsqueeze(-1) * response_mask
    return spread, spread


def _valid_groups(index: Sequence[Any], response_mask: torch.Tensor) -> list[list[int]]:
    groups: dict[Any, list[int]] = defaultdict(list)
    for row, valid in enumerate(response_mask.bool().any(dim=-1).tolist()):
        if valid:
            groups[index[row]].append(row)
    return [rows for rows in groups.values() if len(rows) >= MIN_VALID]
