"""GRPO with LoRA over several turns with tools: a calculator that pays when it is called.

python -m examples.unsloth.grpo_tools
python -m examples.unsloth.grpo_tools --smoke  # a tiny model made on the spot, half a minute on a CPU
"""

# %% Unsloth first: it patches what comes after it
from unsloth import FastLanguageModel  # isort: split

import os
import sys

from trl import GRPOTrainer

from examples.calculator import Calculator
from gym_adapters.unsloth import grpo_config, gym_dataset, gym_reward, gym_rollout, lora_defaults, preflight, save_all

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # TRL's own switch for its notice on rollout_func
smoke = "--smoke" in sys.argv
model_name = "unsloth/Qwen3-4B-Instruct-2507"
max_seq_length, max_prompt_tokens = 2048, 512
lora = lora_defaults(32)
max_steps = 100
if smoke:
    from examples.unsloth.tiny import save_tiny_model

    model_name, lora["use_gradient_checkpointing"] = save_tiny_model(), False
    max_seq_length, max_prompt_tokens, max_steps = 128, 32, 2

# %% The model, with a LoRA
model, tokenizer = FastLanguageModel.from_pretrained(
    model_name,
    max_seq_length=max_seq_length,
    load_in_4bit=False,  # True for QLoRA
)
model = FastLanguageModel.get_peft_model(model, **lora)

# %% Say what would go wrong, before time is lost
args = grpo_config(
    max_seq_length=max_seq_length,
    max_prompt_tokens=max_prompt_tokens,
    per_device_train_batch_size=8,
    gradient_accumulation_steps=1,
    num_generations=4,
    temperature=1.0,
    learning_rate=5e-6,
    max_steps=max_steps,
    save_strategy="no",
)
rollout_func = gym_rollout(Calculator)  # tools of a batch run together, and only what was sampled is learned
problems = preflight(Calculator, args, tokenizer, rollout_func=rollout_func)
assert not problems, problems

# %% Train
trainer = GRPOTrainer(
    model=model,
    processing_class=tokenizer,
    train_dataset=gym_dataset(Calculator, tokenizer=tokenizer, max_prompt_tokens=max_prompt_tokens),
    reward_funcs=gym_reward(Calculator, rollouts_dir="outputs/unsloth/calculator"),
    rollout_func=rollout_func,
    args=args,
)
trainer.train()

# %% Save, and check that the saved model is the trained one
length = max_seq_length - max_prompt_tokens
saved = save_all(model, tokenizer, "outputs/unsloth/calculator", env=Calculator, n=16, max_completion_length=length)
print(saved)

# %%
if smoke:
    logs = [log for log in trainer.state.log_history if "reward" in log]
    assert len(logs) == max_steps
    assert all(log["gym/Calculator/errors"] == 0 and log["gym/Calculator/broken_tokens"] == 0 for log in logs)
    assert saved.keys() == {"trained", "lora"}
