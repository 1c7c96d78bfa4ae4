"""Direct preference optimization with QLoRA: turns that led to higher rewards are preferred.

gym-core run examples.calculator:Calculator --model MODEL --base-url URL --samples 8 --limit 500
python -m examples.unsloth.dpo_from_rollouts rollouts.jsonl
python -m examples.unsloth.dpo_from_rollouts --smoke  # a tiny model made on the spot, half a minute on a CPU
"""

# %% Unsloth first: it patches what comes after it
from unsloth import FastLanguageModel  # isort: split

import sys

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from gym_adapters.unsloth import lora_defaults
from gym_core import preference_pairs, read_rollouts, write_jsonl

smoke = "--smoke" in sys.argv
model_name = "unsloth/Qwen3-4B-Instruct-2507"
rollouts_path = sys.argv[-1]
max_seq_length = 4096
lora = lora_defaults(32)
if smoke:
    from examples.unsloth.demonstrations import save_demonstrations
    from examples.unsloth.tiny import save_tiny_model

    model_name, lora["use_gradient_checkpointing"] = save_tiny_model("outputs/tiny"), False
    rollouts_path = save_demonstrations("outputs/tiny/rollouts.jsonl", samples=6)
    max_seq_length = 256

# %% The model in 4 bits, with a LoRA
model, tokenizer = FastLanguageModel.from_pretrained(model_name, max_seq_length=max_seq_length, load_in_4bit=True)
model = FastLanguageModel.get_peft_model(model, **lora)

# %% All rollouts, good and bad: each pair is two turns after the same conversation
rows = preference_pairs(read_rollouts(rollouts_path), margin=0.25)
write_jsonl("outputs/dpo.jsonl", rows)
print(rows.card)

# %% The reference is the model without its LoRA; the loss falls on the one turn of each side
trainer = DPOTrainer(
    model=model,
    ref_model=None,
    processing_class=tokenizer,
    train_dataset=Dataset.from_list(rows, on_mixed_types="use_json"),
    args=DPOConfig(
        beta=0.1,
        loss_type=["sigmoid"],
        max_length=max_seq_length,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=1,
        num_train_epochs=4 if smoke else 2,
        learning_rate=1e-2 if smoke else 5e-6,
        lr_scheduler_type="linear",
        warmup_steps=5,
        optim="adamw_8bit",
        weight_decay=0.0,
        seed=3407,
        logging_steps=1,
        output_dir="outputs",
        save_strategy="no",
        report_to="none",
    ),
)

# %%
trainer.train()
model.save_pretrained("outputs/dpo_lora")
tokenizer.save_pretrained("outputs/dpo_lora")

# %%
if smoke:
    assert not any(row["rejected"][0].get("tool_calls") for row in rows), "who calls the calculator is always right"
    margins = [log["rewards/margins"] for log in trainer.state.log_history if "rewards/margins" in log]
    assert margins[0] < 0.1 < 1 < margins[-1], margins
    print(f"margin {margins[0]:.2f} -> {margins[-1]:.2f}")
