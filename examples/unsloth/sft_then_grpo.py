"""An SFT warm-up for the format, then GRPO with the same weights: a model learns to say the number it is shown.

python -m examples.unsloth.sft_then_grpo
python -m examples.unsloth.sft_then_grpo --smoke  # a tiny model learns it from nothing, a minute on a CPU
"""

# %% Unsloth first: it patches what comes after it
from unsloth import FastLanguageModel  # isort: split

import asyncio
import sys
from functools import partial
from typing import Any

import torch
from trl import GRPOTrainer

from gym_adapters.unsloth import (
    grpo_config,
    gym_dataset,
    gym_reward,
    lora_defaults,
    mean_reward,
    rollout_with_model,
    sft_warmup,
)
from gym_core import Environment, Rollout, ScriptedPolicy, Task, rollout, user

smoke = "--smoke" in sys.argv
model_name = "unsloth/Qwen3-0.6B"
max_seq_length, max_prompt_tokens, max_completion_length = 1024, 512, 64
lora = lora_defaults(32)
weights: dict[str, Any] = {"load_in_4bit": False}
steps, batch, learning_rate, warmup_rate = 60, 16, 5e-6, 2e-4
if smoke:
    from examples.unsloth.tiny import save_tiny_model

    model_name = save_tiny_model()
    weights |= {"full_finetuning": True, "dtype": torch.float32}
    max_seq_length, max_prompt_tokens, max_completion_length = 64, 32, 4
    steps, batch, learning_rate, warmup_rate = 180, 160, 1e-3, 3e-3


# %% The environment
class Echo(Environment):
    """Say the number of the prompt, and nothing else."""

    tasks = tuple(Task([user(str(number))], answer=str(number)) for number in range(10))

    def verify(self, rollout: Rollout) -> float:
        return float(rollout.last_reply == self.task.answer)


# %% The model, with a LoRA; random weights are all trained, since a LoRA needs something to adapt
model, tokenizer = FastLanguageModel.from_pretrained(model_name, max_seq_length=max_seq_length, **weights)
if not smoke:
    model = FastLanguageModel.get_peft_model(model, **lora)

# %% The warm-up shows the format: after each number comes each digit once, and one in ten is right
digits = "0123456789"
scripted = [asyncio.run(rollout(Echo(task), ScriptedPolicy([digit]))) for task in Echo.tasks for digit in digits]
sft_warmup(
    model,
    tokenizer,
    scripted,
    min_reward=0.0,
    num_train_epochs=20 if smoke else 1,
    per_device_train_batch_size=32,
    learning_rate=warmup_rate,
    lr_scheduler_type="constant",
)
play = partial(rollout_with_model, Echo, model, tokenizer, 100, max_completion_length=max_completion_length)
before = mean_reward(play())

# %% GRPO finds out which
trainer = GRPOTrainer(
    model=model,
    processing_class=tokenizer,
    train_dataset=gym_dataset(Echo, tokenizer=tokenizer, max_prompt_tokens=max_prompt_tokens),
    reward_funcs=gym_reward(Echo),
    args=grpo_config(
        max_seq_length=max_seq_length,
        max_prompt_tokens=max_prompt_tokens,
        max_completion_length=max_completion_length,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=1,
        num_generations=16,
        temperature=1.0,
        learning_rate=learning_rate,
        lr_scheduler_type="constant",
        max_grad_norm=0.5,
        max_steps=steps,
        save_strategy="no",
    ),
)
trainer.train()
after = mean_reward(play())
print(f"mean reward {before:.2f} → {after:.2f}")

# %%
if smoke:
    assert before < 0.2, before
    assert after > 0.7, after
