"""Saving a trained model, and checking that the saved model is the trained one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from unsloth import FastLanguageModel

from gym_adapters.unsloth.playing import mean_reward, rollout_with_model
from gym_core import EnvironmentFactory, GymError, Task

TOLERANCE = 0.05
"""Largest difference in mean reward of a reloaded model: merging rounds weights, which may change a token."""


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
        model: Trained model of `FastLanguageModel`.
        tokenizer: Tokenizer of the model.
        folder: Folder for `lora` (the adapter, or all weights if there is none) and, on request, `merged_16bit`,
            `merged_4bit` and `gguf`.
        env: Environment to play.
        n: Number of rollouts per model.
        max_completion_length: Most tokens of a whole rollout after its prompt.
        tasks: Tasks to play; by default all of the environment's.
        merged: Form in which the adapter is merged into the weights; None does not merge.
        gguf: Quantization for llama.cpp, such as "q8_0", which Unsloth fetches; this form is not loaded again.

    Returns:
        Mean rewards by form; `trained` is the model that was passed.

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
                f"the model loaded from {folder / form} earns {rewards[form]:.3f}, but the trained one earned "
                f"{rewards['trained']:.3f} on the same {n} rollouts at temperature 0"
            )
    return rewards


def _save_weights(model: Any, folder: Path) -> None:
    """Save by `save_lora` if there is one, which casts the adapter to what vLLM loads."""
    save: Callable[[str], None] = getattr(model, "save_lora", model.save_pretrained)
    save(str(folder))


def _method(model: Any, name: str) -> Callable[..., Any]:
    """A method that Unsloth gives models on some backends."""
    if not hasattr(model, name):
        raise GymError(f"Unsloth gives this {type(model).__name__} no {name} on this backend; save the LoRA alone")
    method: Callable[..., Any] = getattr(model, name)
    return method


def _load(folder: Path, like: Any, *, in_4bit: bool) -> Any:
    in_4bit = in_4bit or (folder.name == "lora" and bool(getattr(like, "is_loaded_in_4bit", False)))
    options = {"max_seq_length": like.max_seq_length, "dtype": like.dtype, "load_in_4bit": in_4bit}
    model, _ = FastLanguageModel.from_pretrained(str(folder), **options)
    return model
