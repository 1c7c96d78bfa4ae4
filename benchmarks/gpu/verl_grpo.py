"""What a step of GRPO spends its time on in verl's trainer: SmolLM2-135M adds two digits, with or without a calculator.

Needs no network, only wheels; README.md has the list. One JSON line:

    python -m benchmarks.gpu.verl_grpo
    python -m benchmarks.gpu.verl_grpo --environment calculator --vllm
    python -m benchmarks.gpu.verl_grpo --cpu --tiny --steps 2
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
from importlib.metadata import version
from statistics import fmean
from typing import Any

import torch

from benchmarks.gpu.options import parse, parser
from examples.trl.smollm2 import load_smollm2
from gym_adapters.verl.data import write_data
from gym_adapters.verl.entries import overrides
from gym_adapters.verl.rows import Source
from gym_adapters.verl.testing import char_tokenizer, main_ppo, save_model, tiny_model
from gym_core import read_rollouts

ENVIRONMENTS = {
    "addition": "examples.addition:Addition",
    "calculator": "benchmarks.gpu.shown_calculator:ShownCalculator",
}
TOKENS = {"addition": (128, 16), "calculator": (512, 128)}
"""Tokens per prompt and per completion; a tokenizer of characters needs more."""
LOOP = "benchmarks.gpu.timed_loop.TimedLoop"


def train(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train; returns what verl logged for each step."""
    folder = options.output_dir
    shutil.rmtree(folder / "rollouts", ignore_errors=True)  # agent loops append to it
    save_model(folder / "model", *load(options))
    (folder / "loop.yaml").write_text(f"- name: timed\n  _target_: {LOOP}\n", encoding="utf-8")
    source = Source(ENVIRONMENTS[options.environment])
    write_data([source], folder, train=len(list(source.env.tasks)) - 1, val=1)
    return main_ppo(
        [*overrides([source], folder), *settings(options)],
        output_dir=folder,
        kit=None if options.vllm else "cpu" if options.cpu else "transformers",
        env={"PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])},
    )


def load(options: argparse.Namespace) -> tuple[Any, Any]:
    """The model and its tokenizer, which writes calls as Qwen does."""
    if options.tiny:
        tokenizer = char_tokenizer()
        return tiny_model(tokenizer, seed=options.seed), tokenizer
    model, tokenizer = load_smollm2()
    tokenizer.chat_template = char_tokenizer().chat_template  # SmolLM2's own has no tool calls
    return model, tokenizer


def settings(options: argparse.Namespace) -> list[str]:
    """Groups of eight rollouts; weights in 32-bit floats, in bf16 where they are computed with on a GPU."""
    prompt, response = (tokens * (2 if options.tiny else 1) for tokens in TOKENS[options.environment])
    rollout, actor = "actor_rollout_ref.rollout", "actor_rollout_ref.actor"
    vllm = ["name=vllm", "tensor_model_parallel_size=1", "gpu_memory_utilization=0.4"]
    return [
        f"data.seed={options.seed}",
        f"data.train_batch_size={options.rollouts // 8}",
        f"data.max_prompt_length={prompt}",
        f"data.max_response_length={response}",
        f"actor_rollout_ref.model.path={options.output_dir / 'model'}",
        *(f"{rollout}.{entry}" for entry in vllm if options.vllm),
        f"{rollout}.n=8",
        f"{rollout}.temperature=0.8",  # at 1.0 most of what SmolLM2 says is noise
        f"{rollout}.log_prob_micro_batch_size_per_gpu={options.rollouts}",
        f"{rollout}.agent.default_agent_loop=timed",
        f"{rollout}.agent.agent_loop_config_path={(options.output_dir / 'loop.yaml').absolute()}",
        f"+{rollout}.custom.gym.rollouts_dir={options.output_dir / 'rollouts'}",
        f"{actor}.ppo_mini_batch_size={options.rollouts // 8}",
        f"{actor}.ppo_micro_batch_size_per_gpu={options.rollouts}",
        f"{actor}.optim.lr=1e-5",
        "trainer.nnodes=1",
        "trainer.n_gpus_per_node=1",
        "trainer.val_before_train=false",
        f"trainer.total_training_steps={options.steps}",
        f"trainer.total_epochs={options.steps}",
    ]


def report(options: argparse.Namespace, steps: list[dict[str, Any]]) -> dict[str, Any]:
    """The contents of the JSON line; means leave out the first step, which warms up, where there are others."""
    libraries = ["torch", "transformers", "verl", "ray", *["vllm"] * options.vllm]
    environment = "Addition" if options.environment == "addition" else "Calculator"

    def mean(name: str) -> float:
        return round(fmean(step[name] for step in steps[1:] or steps), 4)

    return {
        "date": options.date,
        "device": platform.processor() or platform.machine() if options.cpu else torch.cuda.get_device_name(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in libraries}},
        "model": "tiny" if options.tiny else "SmolLM2-135M-Instruct",
        "environment": options.environment,
        "generated_by": "vllm" if options.vllm else "transformers",
        "seed": options.seed,
        "rollouts_per_step": options.rollouts,
        "step_s": mean("timing_s/step"),
        "rollouts_s": mean("timing_s/gen"),
        "log_probs_s": mean("timing_s/old_log_prob"),
        "update_s": mean("timing_s/update_actor"),
        "weights_s": mean("timing_s/update_weights"),
        "tokens_per_s": mean("perf/throughput"),
        "generation_of_a_rollout_s": mean(f"gym/{environment}/generation_s"),
        "environment_of_a_rollout_s": mean(f"gym/{environment}/environment_s"),
        "first_step_s": round(steps[0]["timing_s/step"], 4),
        "probs_pearson_corr": mean("training/rollout_actor_probs_pearson_corr"),
        "rewards": [round(step["critic/score/mean"], 3) for step in steps],
        "rollouts": sum(1 for file in (options.output_dir / "rollouts").iterdir() for _ in read_rollouts(file)),
    }


def parse_options() -> argparse.Namespace:
    """Parse the command line."""
    made = parser(__doc__, ENVIRONMENTS, steps=30, output_dir="outputs/gpu_verl_grpo")
    made.add_argument("--vllm", action="store_true", help="generate with vLLM; the default is our rollout server")
    made.add_argument("--tiny", action="store_true", help="89 thousand random weights instead of SmolLM2")
    return parse(made)


def main() -> None:
    """Print one JSON line."""
    options = parse_options()
    print(json.dumps(report(options, train(options))))


if __name__ == "__main__":
    main()
