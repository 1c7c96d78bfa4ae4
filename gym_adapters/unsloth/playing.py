"""Rollouts without a trainer: to see what a model can do before and after training, and for warm-up data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle, islice
from statistics import fmean
from typing import Any

import torch

from gym_adapters.trl.generation import Generate
from gym_adapters.trl.rollouts import chat_template, check_playable, play_in_lockstep
from gym_core import (
    EnvironmentFactory,
    EnvironmentSpecError,
    GymError,
    Policy,
    Rollout,
    Sampled,
    Task,
    TokenizedPolicy,
    TokenPolicy,
    open_episode,
)
from gym_core.driving import Player, as_environment, run, verify_groups

PLAYER = Player("rollout_with_model")
"""The player behind `rollout_with_model`, for everything whose chat template can be continued."""


def rollout_with_model(
    env: EnvironmentFactory | Sequence[EnvironmentFactory],
    model: Any,
    tokenizer: Any,
    n: int,
    *,
    max_completion_length: int,
    temperature: float = 1.0,
    batch_size: int = 32,
    tasks: Iterable[Task] | None = None,
) -> list[Rollout]:
    """Play an environment with a model of Unsloth, token for token as `gym_rollout` does.

    It generates by `fast_generate` if that has a vLLM engine behind it, and by `generate` otherwise. A failure of the
    environment is recorded in the rollout, whose reward is then None; a failure of the model is raised.

    Args:
        env: Environment class, factory or mix, or a list of them.
        model: Model of `FastLanguageModel`.
        tokenizer: Tokenizer of the model.
        n: Number of rollouts: one per task, in order, starting again after the last task.
        max_completion_length: Most tokens of a whole rollout after its prompt.
        temperature: Sampling temperature; 0 takes the likeliest token.
        batch_size: Number of rollouts that are played together.
        tasks: Tasks to play; by default all of the environment's.

    Raises:
        EnvironmentSpecError: There are no tasks.
        GymError: The environment can't be played with this tokenizer.
    """
    env = as_environment(env)
    drawn = list(islice(cycle(env.tasks if tasks is None else tasks), n))
    if len(drawn) < n:
        raise EnvironmentSpecError(f"environment {env.name!r} has no tasks to play")
    stop_ids = _stop_ids(model)
    template = chat_template(tokenizer, stop_ids=stop_ids)
    generate = model_generate(model, tokenizer, stop_ids, max_tokens=max_completion_length, temperature=temperature)

    def policy(sample: TokenPolicy) -> Policy:
        return TokenizedPolicy(sample, template, max_tokens=max_completion_length)

    rollouts: list[Rollout] = []
    for batch in _batches(drawn, batch_size):
        episodes = [open_episode(env, task) for task in batch]
        check_playable(episodes, by=PLAYER, template=template)
        rollouts += play_in_lockstep(episodes, generate, policy)
    return run(verify_groups(env, rollouts))


def mean_reward(rollouts: Sequence[Rollout]) -> float:
    """The mean reward of the rollouts that have one.

    Raises:
        GymError: No rollout has a reward; the message says why the first has none.
    """
    rewards = [rollout.reward for rollout in rollouts if rollout.reward is not None]
    if not rewards:
        error = rollouts[0].error if rollouts else None
        raise GymError(f"none of {len(rollouts)} rollouts has a reward{f': {error.message}' if error else ''}")
    return fmean(rewards)


def model_generate(
    model: Any, tokenizer: Any, stop_ids: Sequence[int], *, max_tokens: int, temperature: float
) -> Generate:
    """Sample one turn for each of several prompts."""
    engine = _vllm_ids if hasattr(model, "vllm_engine") else _transformers_ids
    ends = {*stop_ids, tokenizer.eos_token_id}
    options = {"ends": ends, "pad": tokenizer.pad_token_id, "max_tokens": max_tokens, "temperature": temperature}

    def generate(prompts: Sequence[list[int]]) -> list[Sampled]:
        return [
            Sampled(turn, None, "stop" if turn and turn[-1] in ends else "length")
            for turn in engine(model, prompts, **options)
        ]

    return generate


def _transformers_ids(
    model: Any, prompts: Sequence[list[int]], *, ends: set[int], pad: int, max_tokens: int, temperature: float
) -> Iterator[list[int]]:
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts], device=model.device)
    attended = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0}
    training = model.training
    model.eval()
    with torch.no_grad():
        generated = model.generate(
            input_ids=ids,
            attention_mask=attended.to(model.device),
            max_new_tokens=max_tokens,
            eos_token_id=sorted(ends),
            pad_token_id=pad,
            use_cache=True,
            **sampling,
        )
    model.train(training)
    for turn in generated[:, width:].tolist():
        end = next((position for position, token in enumerate(turn) if token in ends), len(turn))
        yield turn[: end + 1]


def _vllm_ids(
    model: Any, prompts: Sequence[list[int]], *, ends: set[int], pad: int, max_tokens: int, temperature: float
) -> Iterator[list[int]]:
    """The same with the engine of `fast_inference=True`, to which the LoRA must be passed explicitly."""
    from vllm import SamplingParams  # on a GPU only

    sampling = SamplingParams(temperature=temperature, max_tokens=max_tokens, stop_token_ids=sorted(ends))
    lora = {"lora_request": model.load_lora("rollout_with_model", load_tensors=True)} if _has_lora(model) else {}
    requests = [{"prompt_token_ids": prompt} for prompt in prompts]
    for answer in model.fast_generate(requests, sampling_params=sampling, use_tqdm=False, **lora):
        yield list(answer.outputs[0].token_ids)


def _has_lora(model: Any) -> bool:
    return bool(getattr(model, "peft_config", None))


def _stop_ids(model: Any) -> list[int]:
    """The tokens, often several, at which the model's generation config ends a turn."""
    ids = model.generation_config.eos_token_id
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)


def _batches(tasks: Sequence[Task], size: int) -> Iterator[Sequence[Task]]:
    return (tasks[start : start + size] for start in range(0, len(tasks), size))
