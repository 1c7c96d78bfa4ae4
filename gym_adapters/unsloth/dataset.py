"""The tasks of an environment as the `train_dataset` of an Unsloth run."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from datasets import Dataset

from gym_adapters import trl
from gym_adapters.trl.dataset import task_of
from gym_core import ChatTemplate, EnvironmentFactory, EnvironmentSpecError, Task, user
from gym_core.driving import as_environment, members, opened_episode

_log = logging.getLogger(__name__)


def gym_dataset(
    env: EnvironmentFactory | Sequence[EnvironmentFactory],
    *,
    tokenizer: Any,
    max_prompt_tokens: int,
    tasks: Iterable[Task] | None = None,
    limit: int | None = None,
) -> Dataset:
    """The tasks whose prompts are short enough, for `train_dataset` and `eval_dataset`.

    A prompt is measured as the model will see it: rendered by the chat template, with the tools of its environment
    (those of the first task). Messages that `setup` adds later are not counted. A warning says how many tasks were
    dropped.

    Args:
        env: Environment class, factory or mix, or a list of them.
        tokenizer: Tokenizer of the model.
        max_prompt_tokens: Most tokens per prompt; pass the same to `grpo_config`.
        tasks: Tasks to use; by default all of the environment's.
        limit: Number of tasks to take from the start, before any is dropped.

    Returns:
        The rows of `gym_adapters.trl.gym_dataset`.

    Raises:
        EnvironmentSpecError: There are no tasks, or all prompts are too long.
        EpisodeError: An environment can't be opened to see its tools.
        TaskError: A row of a JSONL file is not a task.
    """
    env = as_environment(env)
    dataset = trl.gym_dataset(env, tasks=tasks, limit=limit)
    tools = {name: opened_episode(member).tools for name, member in members(env).items()}
    template = ChatTemplate(tokenizer)
    lengths = [
        len(template.prompt(task_of(row).prompt or [user("")], tools[name]).ids)
        for row, name in zip(dataset["gym_row"], dataset["environment"], strict=True)
    ]
    kept = [position for position, length in enumerate(lengths) if length <= max_prompt_tokens]
    if not kept:
        raise EnvironmentSpecError(
            f"all {len(lengths)} prompts of {env.name!r} are too long: the shortest has {min(lengths)} tokens, and "
            f"max_prompt_tokens is {max_prompt_tokens}"
        )
    if len(kept) < len(lengths):
        dropped = len(lengths) - len(kept)
        _log.warning(
            "%d of %d tasks dropped: their prompts have more than %d tokens", dropped, len(lengths), max_prompt_tokens
        )
    return dataset.select(kept)
