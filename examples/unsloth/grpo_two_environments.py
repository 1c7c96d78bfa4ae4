"""GRPO with LoRA on two environments at once: a game of user turns, and additions in one reply.

python -m examples.unsloth.grpo_two_environments
python -m examples.unsloth.grpo_two_environments --smoke  # a tiny model made on the spot, half a minute on a CPU
"""

# %% Unsloth first: it patches what comes after it
from unsloth import FastLanguageModel  # isort: split

import os
import sys

from trl import GRPOTrainer

from examples.addition import Addition
from examples.guess_number import GuessNumber
from gym_adapters.unsloth import grpo_config, gym_dataset, gym_reward, gym_rollout, lora_defaults
from gym_core import mix

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # TRL's own switch for its notice on rollout_func
smoke = "--smoke" in sys.argv
model_name = "unsloth/Qwen3-4B-Instruct-2507"
max_seq_length, max_prompt_tokens = 2048, 512
lora = lora_defaults(32)
max_steps, batch = 100, 16
if smoke:
    from examples.unsloth.tiny import save_tiny_model

    model_name, lora["use_gradient_checkpointing"] = save_tiny_model(), False
    max_seq_length, max_prompt_tokens, max_steps, batch = 256, 160, 2, 32

# %% The environments, in these proportions, until one of them has no task left
env = mix({GuessNumber: 1, Addition: 2}, seed=3407)

# %% The model, with a LoRA
model, tokenizer = FastLanguageModel.from_pretrained(
    model_name,
    max_seq_length=max_seq_length,
    load_in_4bit=False,  # True for QLoRA
)
model = FastLanguageModel.get_peft_model(model, **lora)

# %% Train
trainer = GRPOTrainer(
    model=model,
    processing_class=tokenizer,
    train_dataset=gym_dataset(env, tokenizer=tokenizer, max_prompt_tokens=max_prompt_tokens),
    reward_funcs=gym_reward(env, rollouts_dir="outputs/unsloth/two_environments"),
    rollout_func=gym_rollout(env),
    args=grpo_config(
        max_seq_length=max_seq_length,
        max_prompt_tokens=max_prompt_tokens,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=1,
        num_generations=4,
        temperature=1.0,
        learning_rate=5e-6,
        max_steps=max_steps,
        save_strategy="no",
    ),
)
trainer.train()

# %%
model.save_pretrained("outputs/unsloth/two_environments/lora")
tokenizer.save_pretrained("outputs/unsloth/two_environments/lora")

# %%
if smoke:
    logged = {name for log in trainer.state.log_history for name in log}
    assert {"gym/GuessNumber/turns", "gym/Addition/turns"} <= logged, logged
    assert trainer.state.global_step == max_steps
