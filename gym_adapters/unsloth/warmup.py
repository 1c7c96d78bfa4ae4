"""A supervised warm-up on successful rollouts, with the LoRA that GRPO continues to train."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, cast

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from gym_adapters.unsloth.config import with_stated
from gym_adapters.unsloth.masks import check_masks
from gym_core import GymError, Rollout, sft_rows


def sft_warmup(
    model: Any,
    tokenizer: Any,
    rollouts: Iterable[Rollout],
    *,
    min_reward: float = 1.0,
    best_of: int | None = None,
    **settings: Any,
) -> SFTTrainer:
    """Train a model on successful rollouts (rejection sampling); only the assistant's text is learned.

    If all rollouts recorded their tokens, exactly these are learned. If one did not, such as a scripted rollout or one
    from a server, all are rendered by the chat template, which must mark the assistant's text (`{% generation %}`; TRL
    has such versions of the usual templates), and `check_masks` checks the masks.

    Args:
        model: Model of `FastLanguageModel` with its LoRA; it is trained in place.
        tokenizer: Tokenizer of the model.
        rollouts: Rollouts to learn from; those without a reward, those that were cut off and duplicates are left out.
        min_reward: Least reward that is worth imitating.
        best_of: Most rollouts per task; None takes all.
        settings: Settings of SFTConfig, such as `learning_rate` and `num_train_epochs`; they replace those of
            `config.STATED`.

    Returns:
        The trainer, whose `state.log_history` has the losses.

    Raises:
        GymError: No rollout is good enough, SFTConfig has no such setting, or environment text would be learned.
    """
    played = list(rollouts)
    form: Literal["tokens", "messages"] = "tokens" if all(rollout.tokens for rollout in played) else "messages"
    rows = sft_rows(played, form, min_reward=min_reward, best_of=best_of)
    if not rows:
        raise GymError(f"none of {len(played)} rollouts can be learned from: {dict(rows.dropped)}")
    defaults = {"save_strategy": "no", "max_length": model.max_seq_length, "assistant_only_loss": form == "messages"}
    config = SFTConfig(**with_stated(SFTConfig, {**defaults, **settings}))
    columns = ["input_ids", "labels"] if form == "tokens" else ["messages"]
    dataset = Dataset.from_list([{name: row[name] for name in columns} for row in rows], on_mixed_types="use_json")
    trainer = SFTTrainer(model=model, processing_class=tokenizer, train_dataset=dataset, args=config)
    if form == "messages":
        check_masks(cast("Dataset", trainer.train_dataset), tokenizer, [row["messages"] for row in rows])
    trainer.train()
    return trainer
