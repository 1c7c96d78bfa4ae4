"""Saving what was trained, and seeing that what was saved is what was trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from unsloth import FastLanguageModel

from gym_adapters.unsloth.playing import mean_reward, rollout_with_model
from gym_core import EnvironmentFactory, GymError, Task

TOLERANCE = 0.05
"""By how much the mean reward of a reloaded model may differ: merging rounds, and a token may then be another."""


def save_all(
    model: Any,
    tokenizer: Any,
    folder: str | Path,
    *,
    env: EnvironmentFactory | Sequence[EnvironmentFactory],
    n: int,
    max_completion_length: int,
    tasks: Iterable[Task] | None = None,
    merged: Literal["merged_16bit", "merged_4bit"] | None = None,
    gguf: str | None = None,
) -> dict[str, float]:
    """Save a model in several forms, load each again, and let it play the same tasks.

    A LoRA that is saved, merged or loaded wrongly raises no error: the base model answers (unsloth#1670,
    unsloth#8701). So the model at hand plays `n` rollouts at temperature 0, and each reloaded one must earn the same.

    Args:
        model: Of `FastLanguageModel`, trained.
        tokenizer: The model's.
        folder: Where `lora` (the adapter, or all weights where there is none), and `merged_16bit`, `merged_4bit` and
            `gguf` are written, as asked for.
        env: What it plays.
        n: Rollouts of each model.
        max_completion_length: Tokens of a whole rollout behind its prompt.
        tasks: The default is all of the environment's.
        merged: Whether to write the adapter into the weights, and how many bits they have.
        gguf: A quantization such as "q8_0", for llama.cpp, which Unsloth fetches; this form is not loaded again.

    Returns:
        Mean rewards by form; `trained` is the model at hand.

    Raises:
        GymError: A reloaded model earns more or less, no rollout has a reward, or this backend can't save the form.
    """
    folder = Path(folder)
    chosen = None if tasks is None else list(tasks)

    def earned(player: Any) -> float:
        length = max_completion_length
        rollouts = rollout_with_model(
            env, player, tokenizer, n, max_completion_length=length, temperature=0.0, tasks=chosen
        )
        return mean_reward(rollouts)

    rewards = {"trained": earned(model)}
    _save_weights(model, folder / "lora")
    tokenizer.save_pretrained(folder / "lora")
    if merged is not None:
        _method(model, "save_pretrained_merged")(str(folder / merged), tokenizer, save_method=merged)
    if gguf is not None:
        _method(model, "save_pretrained_gguf")(str(folder / "gguf"), tokenizer, quantization_method=gguf)
    for form in ("lora", *([merged] if merged else ())):
        rewards[form] = earned(_load(folder / form, model, in_4bit=form == "merged_4bit"))
        if abs(rewards[form] - rewards["trained"]) > TOLERANCE:
            raise GymError(
                f"the model loaded from {folder / form} earns {rewards[form]:.3f} where the trained one earns "
                f"{rewards['trained']:.3f}, on the same {n} rollouts at temperature 0"
            )
    return rewards


def _save_weights(model: Any, folder: Path) -> None:
    """By `save_lora` where there is one, which casts the adapter to what vLLM loads."""
    save: Callable[[str], None] = getattr(model, "save_lora", model.save_pretrained)
    save(str(folder))


def _method(model: Any, name: str) -> Callable[..., Any]:
    """One of the methods that Unsloth gives a model, or not, by backend."""
    if not hasattr(model, name):
        raise GymError(f"Unsloth gives this {type(model).__name__} no {name} on this backend; save the LoRA alone")
    method: Callable[..., Any] = getattr(model, name)
    return method


def _load(folder: Path, like: Any, *, in_4bit: bool) -> Any:
    in_4bit = in_4bit or (folder.name == "lora" and bool(getattr(like, "is_loaded_in_4bit", False)))
    options = {"max_seq_length": like.max_seq_length, "dtype": like.dtype, "load_in_4bit": in_4bit}
    model, _ = FastLanguageModel.from_pretrained(str(folder), **options)
    return model
