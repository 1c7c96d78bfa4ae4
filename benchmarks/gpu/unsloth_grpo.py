"""GRPO with Unsloth on a GPU, without vLLM: its rewritten trainer, its kernels, a LoRA, and our episodes.

SmolLM2-135M adds two digits, with or without a calculator; the trained model is saved, loaded and played again. It
needs no network, only wheels; README.md has the list. One JSON line:

    python -m benchmarks.gpu.unsloth_grpo
    python -m benchmarks.gpu.unsloth_grpo --environment calculator --qlora
    python -m benchmarks.gpu.unsloth_grpo --cpu --steps 2
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
import warnings
from importlib.metadata import version
from statistics import fmean
from typing import Any

from unsloth import FastLanguageModel  # isort: split  # it patches what comes after it

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # TRL's own switch for its notice on rollout_func

import torch
from transformers import PrinterCallback
from trl import GRPOTrainer

from benchmarks.gpu.options import parse, parser
from benchmarks.gpu.shown_calculator import ShownCalculator
from examples.addition import Addition
from examples.trl.smollm2 import load_smollm2
from gym_adapters.unsloth import (
    add_tool_template,
    grpo_config,
    gym_dataset,
    gym_reward,
    gym_rollout,
    lora_defaults,
    mean_reward,
    rollout_with_model,
    save_all,
)

ENVIRONMENTS = {"addition": Addition, "calculator": ShownCalculator}
TOKENS = {"addition": 16, "calculator": 128}
"""Tokens per completion."""
MAX_PROMPT_TOKENS = 640
PLAYED = 64
"""Rollouts per evaluation."""


def train(options: argparse.Namespace) -> tuple[GRPOTrainer, dict[str, float]]:
    """Evaluate, train, save and load again; returns the mean reward of each model."""
    env, tokens = ENVIRONMENTS[options.environment], TOKENS[options.environment]
    model, tokenizer = load(options)
    if options.environment == "calculator":
        add_tool_template(tokenizer)
    play: dict[str, Any] = {"env": env, "n": PLAYED, "max_completion_length": tokens}
    before = mean_reward(rollout_with_model(model=model, tokenizer=tokenizer, temperature=0.0, **play))
    trainer = GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=gym_dataset(env, tokenizer=tokenizer, max_prompt_tokens=MAX_PROMPT_TOKENS),
        reward_funcs=gym_reward(env, rollouts_dir=options.output_dir),
        rollout_func=gym_rollout(env),
        args=grpo_config(
            max_seq_length=1024,
            max_prompt_tokens=MAX_PROMPT_TOKENS,
            max_completion_length=tokens,
            output_dir=str(options.output_dir),
            max_steps=options.steps,
            seed=options.seed,
            learning_rate=3e-4,
            lr_scheduler_type="constant",
            per_device_train_batch_size=options.rollouts,
            num_generations=8,
            temperature=0.8,  # at 1.0 most of what SmolLM2 says is noise
            save_strategy="no",
            disable_tqdm=True,
        ),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    merged = None if options.qlora else "merged_16bit"
    return trainer, {"before": before, **save_all(model, tokenizer, options.output_dir, merged=merged, **play)}


def load(options: argparse.Namespace) -> tuple[Any, Any]:
    """SmolLM2 with a LoRA, by Unsloth's loader, which takes a folder."""
    folder = options.output_dir / "smollm2"
    model, tokenizer = load_smollm2()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model, tokenizer = FastLanguageModel.from_pretrained(str(folder), max_seq_length=1024, load_in_4bit=options.qlora)
    return FastLanguageModel.get_peft_model(model, **lora_defaults(8)), tokenizer


def report(options: argparse.Namespace, trainer: GRPOTrainer, rewards: dict[str, float]) -> dict[str, Any]:
    """The contents of the JSON line."""
    logs = [log for log in trainer.state.log_history if "reward" in log]
    libraries = ["torch", "transformers", "trl", "datasets", "peft", "unsloth", "unsloth_zoo"]
    return {
        "date": options.date,
        "device": platform.processor() or platform.machine() if options.cpu else torch.cuda.get_device_name(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in libraries}},
        "model": "SmolLM2-135M-Instruct",
        "environment": options.environment,
        "finetuned": "qlora" if options.qlora else "lora",
        "trainer": type(trainer).__name__,
        "rollouts_per_step": options.rollouts,
        "step_s": round(fmean(log["step_time"] for log in logs[1:] or logs), 4),
        "first_step_s": round(logs[0]["step_time"], 4),
        "rewards": [round(log["reward"], 3) for log in logs],
        "mean_rewards": rewards,
    }


def parse_options() -> argparse.Namespace:
    """Parse the command line."""
    made = parser(__doc__, ENVIRONMENTS, steps=50, output_dir="outputs/gpu_unsloth_grpo")
    made.add_argument("--qlora", action="store_true", help="load the weights in 4 bits")
    return parse(made)


def main() -> None:
    """Print one JSON line."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # names that transformers changes under TRL
    options = parse_options()
    options.output_dir.mkdir(parents=True, exist_ok=True)
    (options.output_dir / "rollouts.jsonl").unlink(missing_ok=True)  # rewards are appended to it
    started_s = time.monotonic()
    measured = report(options, *train(options))
    print(json.dumps({**measured, "seconds": round(time.monotonic() - started_s, 1)}))


if __name__ == "__main__":
    main()
