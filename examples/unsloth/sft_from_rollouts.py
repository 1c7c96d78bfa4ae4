"""Supervised fine-tuning with QLoRA on rollouts that went well: another model's, people's, or the model's own.

gym-core run examples.calculator:Calculator --model MODEL --base-url URL --samples 8 --limit 500
python -m examples.unsloth.sft_from_rollouts rollouts.jsonl
python -m examples.unsloth.sft_from_rollouts --smoke  # a tiny model made on the spot, half a minute on a CPU
"""

# %% Unsloth first: it patches what comes after it
from unsloth import FastLanguageModel, train_on_responses_only  # isort: split

import sys

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from gym_adapters.unsloth import lora_defaults
from gym_core import read_rollouts, sft_rows, write_jsonl

smoke = "--smoke" in sys.argv
model_name = "unsloth/Qwen3-4B-Instruct-2507"
rollouts_path = sys.argv[-1]
max_seq_length = 4096
lora = lora_defaults(32)
if smoke:
    from examples.unsloth.demonstrations import save_demonstrations
    from examples.unsloth.tiny import save_tiny_model

    model_name, lora["use_gradient_checkpointing"] = save_tiny_model("outputs/tiny"), False
    rollouts_path = save_demonstrations("outputs/tiny/rollouts.jsonl", samples=2)
    max_seq_length = 256

# %% The model in 4 bits, with a LoRA
model, tokenizer = FastLanguageModel.from_pretrained(model_name, max_seq_length=max_seq_length, load_in_4bit=True)
model = FastLanguageModel.get_peft_model(model, **lora)

# %% The rollouts: those with the full reward, at most four of each task, none twice
rows = sft_rows(read_rollouts(rollouts_path), "text", tokenizer=tokenizer, min_reward=1.0, best_of=4)
write_jsonl("outputs/sft.jsonl", rows)
print(rows.card)

# %% The loss falls only on what the assistant wrote
trainer = SFTTrainer(
    model=model,
    processing_class=tokenizer,
    train_dataset=Dataset.from_list(rows),
    args=SFTConfig(
        dataset_text_field="text",
        max_length=max_seq_length,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=1,
        num_train_epochs=4 if smoke else 2,
        learning_rate=1e-2 if smoke else 2e-4,
        lr_scheduler_type="linear",
        warmup_steps=5,
        optim="adamw_8bit",
        weight_decay=0.01,
        seed=3407,
        logging_steps=1,
        output_dir="outputs",
        save_strategy="no",
        report_to="none",
    ),
)
trainer = train_on_responses_only(trainer)
learned = [tokenizer.decode([token for token in row["labels"] if token != -100]) for row in trainer.train_dataset]
print(f"A row that is learned: {learned[0]!r}")

# %%
trainer.train()
model.save_pretrained("outputs/sft_lora")
tokenizer.save_pretrained("outputs/sft_lora")

# %%
if smoke:
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert learned[0].startswith("<call>calculate"), learned[0]
    assert not any("<user>" in text or "<tool>" in text for text in learned)
    assert losses[-1] < losses[0] - 1, losses
    print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}")
