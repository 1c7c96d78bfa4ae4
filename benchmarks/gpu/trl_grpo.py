"""What a step of GRPO spends its time on, on a GPU: SmolLM2-135M adds two digits, with or without a calculator.

Needs no network, only wheels; README.md has the list. One JSON line:

    python -m benchmarks.gpu.trl_grpo
    python -m benchmarks.gpu.trl_grpo --environment calculator --lora
    python -m benchmarks.gpu.trl_grpo --cpu --steps 2
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from statistics import fmean
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # TRL's own switch for its notice on rollout_func
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # otherwise torch's threads spin while they wait for each other

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.gpu.options import parse, parser
from benchmarks.gpu.shown_calculator import ShownCalculator
from examples.addition import Addition
from examples.trl.smollm2 import load_smollm2
from gym_adapters.trl import add_tool_template, gym_dataset, gym_reward, gym_rollout

ENVIRONMENTS = {"addition": Addition, "calculator": ShownCalculator}
TOKENS = {"addition": 16, "calculator": 128}
"""Tokens per completion."""


class Stopwatch(TrainerCallback):
    """Seconds that parts of each step take.

    Attributes:
        steps: One dict per step: TRL's time of the whole `step`, and the time of each part of ours.
        rewards: The mean reward of each step.
    """

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.rewards: list[float] = []
        self._parts: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time a part of the step."""
        started_s = time.perf_counter()
        yield
        self._parts[name] = self._parts.get(name, 0.0) + time.perf_counter() - started_s

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Record the step that has ended."""
        if "reward" in logs:
            self.steps.append({"step": logs["step_time"], **self._parts})
            self.rewards.append(round(logs["reward"], 3))
            self._parts = {}

    def split(self) -> dict[str, float]:
        """Mean seconds per step, without the first one, which warms up, where there are others."""
        steps = self.steps[1:] or self.steps
        step, rollouts, generation, rewards = (
            fmean(seconds[part] for seconds in steps) for part in ("step", "rollouts", "generation", "rewards")
        )
        ours = rollouts - generation + rewards
        return {
            "step_s": round(step, 4),
            "generation_s": round(generation, 4),
            "environment_and_reward_s": round(ours, 4),
            "environment_and_reward_share": round(ours / step, 4),
            "training_s": round(step - rollouts - rewards, 4),
        }


def train(options: argparse.Namespace) -> tuple[GRPOTrainer, Stopwatch]:
    """Train, with generation and our side timed."""
    env, watch = ENVIRONMENTS[options.environment], Stopwatch()
    model, tokenizer = load(options)
    play, verify = gym_rollout(env), gym_reward(env, rollouts_dir=options.output_dir)

    def timed_play(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        with watch.part("rollouts"):
            return play(prompts, trainer)

    async def timed_verify(**columns: Any) -> list[float | None]:
        with watch.part("rewards"):
            return await verify(**columns)

    def timed_generate(*args: Any, **kwargs: Any) -> Any:
        with watch.part("generation"):  # ends in lists, for which the GPU must have finished
            return generate(*args, **kwargs)

    trainer = GRPOTrainer(
        model=model,
        args=config(options),
        processing_class=add_tool_template(tokenizer) if options.environment == "calculator" else tokenizer,
        train_dataset=gym_dataset(env),
        reward_funcs=timed_verify,
        rollout_func=timed_play,
        peft_config=lora() if options.lora else None,
        callbacks=[watch],
    )
    # TRL has no public timer of it; this is the private name that gym_rollout calls.
    generate, trainer._generate_single_turn = trainer._generate_single_turn, timed_generate
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer, watch


def load(options: argparse.Namespace) -> tuple[Any, Any]:
    """SmolLM2 and its tokenizer; vLLM loads a model by name, so for vLLM it is saved to a folder first.

    All weights are trained in 32-bit floats, under autocast on a GPU: steps this small are lost in bf16 ones.
    """
    model, tokenizer = load_smollm2()
    if options.lora and not options.cpu:
        model = model.to(torch.bfloat16)
    if options.vllm:
        folder = options.output_dir / "smollm2"
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=model.dtype)
    return model, tokenizer


def lora() -> LoraConfig:
    return LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")


def config(options: argparse.Namespace) -> GRPOConfig:
    """Groups of eight rollouts; bf16 autocast on a GPU."""
    return GRPOConfig(
        output_dir=str(options.output_dir),
        seed=options.seed,
        max_steps=options.steps,
        learning_rate=3e-4 if options.lora else 1e-5,
        lr_scheduler_type="constant",
        per_device_train_batch_size=options.rollouts,
        num_generations=8,
        temperature=0.8,  # at 1.0 most of what SmolLM2 says is noise
        max_completion_length=TOKENS[options.environment],
        use_vllm=options.vllm,
        vllm_mode="colocate",
        use_cpu=options.cpu,
        bf16=not options.cpu,
        gradient_checkpointing=False,  # its name before transformers 5.23, which the wheels of README.md precede
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def report(options: argparse.Namespace, trainer: GRPOTrainer, watch: Stopwatch) -> dict[str, Any]:
    """The contents of the JSON line."""
    libraries = ["torch", "transformers", "trl", "datasets", "peft", *["vllm"] * options.vllm]
    return {
        "date": options.date,
        "device": platform.processor() or platform.machine() if options.cpu else torch.cuda.get_device_name(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in libraries}},
        "model": "SmolLM2-135M-Instruct",
        "environment": options.environment,
        "finetuned": "lora" if options.lora else "full",
        "generated_by": "vllm" if options.vllm else "transformers",
        "weights": str(trainer.model.dtype).removeprefix("torch."),
        "autocast": "none" if options.cpu else "bfloat16",
        "seed": options.seed,
        "rollouts_per_step": options.rollouts,
        **watch.split(),
        "first_step_s": round(watch.steps[0]["step"], 4),
        "rewards": watch.rewards,
    }


def parse_options() -> argparse.Namespace:
    """Parse the command line."""
    made = parser(__doc__, ENVIRONMENTS, steps=50, output_dir="outputs/gpu_trl_grpo")
    made.add_argument("--lora", action="store_true", help="train LoRA adapters; the default is all weights")
    made.add_argument("--vllm", action="store_true", help="generate with vLLM in the trainer's process")
    return parse(made)


def main() -> None:
    """Print one JSON line."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # names that transformers changes under TRL
    options = parse_options()
    options.output_dir.mkdir(parents=True, exist_ok=True)
    (options.output_dir / "rollouts.jsonl").unlink(missing_ok=True)  # rewards are appended to it
    print(json.dumps(report(options, *train(options))))


if __name__ == "__main__":
    main()
