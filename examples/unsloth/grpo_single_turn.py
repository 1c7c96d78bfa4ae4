"""GRPO with LoRA on mini sudokus, one reply each: the job of Unsloth's NeMo Gym Sudoku notebook.

python -m examples.unsloth.grpo_single_turn
python -m examples.unsloth.grpo_single_turn --smoke  # a tiny model made on the spot, half a minute on a CPU
"""

# %% Unsloth first: it patches what comes after it
from unsloth import FastLanguageModel  # isort: split

import sys
from typing import Any

from trl import GRPOTrainer

from gym_adapters.reasoning_gym import reasoning_gym
from gym_adapters.unsloth import (
    grpo_config,
    gym_dataset,
    gym_reward,
    lora_defaults,
    mean_reward,
    rollout_with_model,
    save_all,
)

smoke = "--smoke" in sys.argv
model_name = "unsloth/Qwen3-4B-Instruct-2507"
max_seq_length, max_prompt_tokens = 2048, 1024
lora = lora_defaults(32)
max_steps, max_completion_length, evaluated = 100, max_seq_length - max_prompt_tokens, 64
if smoke:
    from examples.unsloth.tiny import save_tiny_model

    model_name, lora["use_gradient_checkpointing"] = save_tiny_model(), False
    max_steps, max_completion_length, evaluated = 2, 16, 4

# %% The environment: any of reasoning-gym's 105 datasets, or a class of yours
env = reasoning_gym("mini_sudoku", size=max_steps + evaluated, seed=3407)
tasks = list(env.tasks)
held_out, training = tasks[:evaluated], tasks[evaluated:]

# %% The model, with a LoRA
model, tokenizer = FastLanguageModel.from_pretrained(
    model_name,
    max_seq_length=max_seq_length,
    load_in_4bit=False,  # True for QLoRA
)
model = FastLanguageModel.get_peft_model(model, **lora)

# %% What it can do before
options: dict[str, Any] = {"n": evaluated, "max_completion_length": max_completion_length, "tasks": held_out}
before = mean_reward(rollout_with_model(env, model, tokenizer, **options))

# %% Train
trainer = GRPOTrainer(
    model=model,
    processing_class=tokenizer,
    train_dataset=gym_dataset(env, tokenizer=tokenizer, max_prompt_tokens=max_prompt_tokens, tasks=training),
    reward_funcs=gym_reward(env, rollouts_dir="outputs/unsloth/sudoku"),
    args=grpo_config(
        max_seq_length=max_seq_length,
        max_prompt_tokens=max_prompt_tokens,
        max_completion_length=max_completion_length,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=1,
        num_generations=4,
        temperature=1.0,
        learning_rate=5e-6,
        max_steps=max_steps,
        save_strategy="no",
    ),
)
trainer.train()

# %% What it can do after, and what can be loaded again
after = mean_reward(rollout_with_model(env, model, tokenizer, **options))
print(f"mean reward {before:.2f} → {after:.2f}")
saved = save_all(model, tokenizer, "outputs/unsloth/sudoku", env=env, merged="merged_16bit", **options)
print(saved)

# %%
if smoke:
    logs = [log for log in trainer.state.log_history if "reward" in log]
    assert len(logs) == max_steps
    assert all(log["gym/mini_sudoku/errors"] == 0 and log["gym/mini_sudoku/turns"] == 1 for log in logs)
    assert saved.keys() == {"trained", "lora", "merged_16bit"}
