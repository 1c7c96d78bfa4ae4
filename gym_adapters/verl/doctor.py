"""The doctor: what would go wrong in a run of verl's trainer, said before time is lost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from gym_adapters.verl.checks import advice, composed, problems
from gym_adapters.verl.compat import create_rl_dataset, get_custom_reward_fn
from gym_adapters.verl.rehearsal import Worker, coloured, replies
from gym_adapters.verl.reward import REWARD_FUNCTION
from gym_adapters.verl.rows import gym_row
from gym_core import EpisodeError, GymError
from gym_core.driving import opened_episode, playable


def examine(overrides: list[str], say: Callable[[str], None] = print) -> list[str]:
    """Do what main_ppo would do with these arguments, except training: load everything and play two rollouts.

    Args:
        overrides: Arguments of `python -m verl.trainer.main_ppo`.
        say: Function that prints a line or a rollout.

    Returns:
        One sentence per problem; an empty list if there is none.

    Raises:
        GymError: main_ppo would refuse the arguments, or has no data.
    """
    config = composed(overrides)
    found = list(problems(config))
    if found:
        return found
    worker = Worker(config)
    datasets = {split: _dataset(config, worker, split) for split in ("train", "val")}
    for split, dataset in datasets.items():
        say(f"data.{split}_files: {len(dataset)} tasks, the first of {dataset[0]['data_source']}")
    row = datasets["train"][0]
    found += _row_problems(config, row)
    if not found:
        for what, reply in replies(row, worker.tokenizer):
            found += _rehearse(config, worker, datasets["train"][0], reply, what, say)
    for sentence in advice(config):
        say(f"better: {sentence}")
    return found


def _dataset(config: Any, worker: Worker, split: str) -> Any:
    dataset = create_rl_dataset(
        config.data[f"{split}_files"],
        config.data,
        worker.tokenizer,
        worker.processor,
        is_train=split == "train",
        max_samples=config.data.get(f"{split}_max_samples", -1),
    )
    if not len(dataset):
        raise GymError(f"data.{split}_files has no rows")
    return dataset


def _row_problems(config: Any, row: dict[str, Any]) -> Iterator[str]:
    gym = gym_row(row["extra_info"])
    loop = row.get("agent_name", config.actor_rollout_ref.rollout.agent.default_agent_loop)
    if loop == "gym":
        return
    try:
        episode = opened_episode(gym.env, gym.task)
    except EpisodeError as error:
        yield str(error)
        return
    if problem := playable(episode, by=replace(REWARD_FUNCTION, name=f"agent loop {loop!r}")):
        yield problem
    elif get_custom_reward_fn(config) is None:
        yield (
            f"nothing verifies the replies of environment {gym.env.name!r}: set "
            "reward.custom_reward_function.path=pkg://gym_adapters.verl.reward"
        )


def _rehearse(
    config: Any, worker: Worker, row: dict[str, Any], reply: str, what: str, say: Callable[[str], None]
) -> Iterator[str]:
    """Play one rollout and show it."""
    rollout = worker.play(row, reply)
    text = rollout.non_tensor_batch
    if "rm_scores" in rollout.batch:
        reward = float(rollout.batch["rm_scores"].sum())
        metrics = text["reward_extra_info"]
    else:
        truth = row["reward_model"]["ground_truth"]
        metrics = get_custom_reward_fn(config)(row["data_source"], reply, truth, row["extra_info"])
        reward = metrics["score"]
    numbers = ", ".join(f"{name} {value:g}" for name, value in metrics.items() if not math.isnan(value))
    say(f"\na rollout whose every turn is {what}: reward {reward:g} ({numbers})\n{coloured(rollout, worker.tokenizer)}")
    if metrics.get("unscored"):
        yield f"the rollout whose every turn is {what} has no reward; the warning above says what broke"
    elif not rollout.batch["response_mask"].any():
        yield f"the rollout whose every turn is {what} has no token that counts"
