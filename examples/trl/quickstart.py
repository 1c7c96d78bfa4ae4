"""A model of 89 thousand parameters finds out that a calculator pays: a minute on a CPU, no downloads.

The model is made on the spot and warmed up on conversations; three in ten call the calculator, and the others
guess. GRPO then lets it play `Calculator` and rewards what is right. From the root of the repository:

    python -m examples.trl.quickstart
"""

import argparse
import os
import random
import sys
import warnings
from pathlib import Path

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # TRL's own switch for its notice on environment_factory

import torch
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from examples.calculator import Calculator
from examples.trl.curve import RewardCurve
from examples.trl.warm_up import warm_up
from gym_adapters.trl import gym_dataset, gym_environment, gym_reward, preflight
from gym_adapters.trl.testing import char_tokenizer, tiny_model

GOAL = 0.7


def main() -> None:
    """Warm up, evaluate, train, evaluate again, and exit with 1 unless the reward has risen to the goal."""
    # TRL 1.16 reads this property of a model by the name it had before transformers 5.23.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    torch.set_num_threads(1)  # matrices as small as these are slower on more
    options = parse_options()
    options.output_dir.mkdir(parents=True, exist_ok=True)
    (options.output_dir / "rollouts.jsonl").unlink(missing_ok=True)  # rewards are appended to it

    chooser = random.Random(options.seed)
    tasks = chooser.sample(Calculator.tasks, len(Calculator.tasks))
    held_out, training = tasks[:16], tasks[16:]
    tokenizer = char_tokenizer()
    model = tiny_model(tokenizer, seed=options.seed)
    print(f"Warming up a model of {model.num_parameters():,} parameters ...", flush=True)
    warm_up(model, tokenizer, tasks=training, chooser=chooser)

    args = config(options)
    for problem in preflight(Calculator, args, tokenizer):
        print(f"preflight: {problem}")
    curve = RewardCurve(every=5)
    trainer = GRPOTrainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        train_dataset=gym_dataset(Calculator, tasks=training),
        eval_dataset=gym_dataset(Calculator, tasks=held_out),
        reward_funcs=gym_reward(Calculator, rollouts_dir=options.output_dir),
        environment_factory=gym_environment(Calculator),
        callbacks=[curve],
    )
    trainer.remove_callback(PrinterCallback)  # the curve is easier to read than a dict of all metrics
    trainer.evaluate()
    trainer.train()
    trainer.evaluate()

    before, after = curve.held_out[0], curve.held_out[options.steps]
    change = f"mean reward {before:.2f} → {after:.2f} on held-out tasks"
    curve.save(options.output_dir / "reward.png", title=f"Calculator, {options.steps} steps of GRPO\n{change}")
    print(f"{change}; see reward.png and rollouts.jsonl in {options.output_dir}")
    if after < GOAL:
        sys.exit(f"the reward must rise to {GOAL}, not {after:.2f}: the model has not learned")


def config(options: argparse.Namespace) -> GRPOConfig:
    """Four groups of eight rollouts per step; an evaluation plays all held-out tasks at once."""
    return GRPOConfig(
        output_dir=str(options.output_dir),
        seed=options.seed,
        max_steps=options.steps,
        learning_rate=5e-4,
        lr_scheduler_type="constant",
        per_device_train_batch_size=32,
        per_device_eval_batch_size=128,
        num_generations=8,
        max_completion_length=64,
        max_tool_calling_iterations=Calculator.max_turns - 1,
        activation_checkpointing=False,
        use_cpu=True,
        bf16=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def parse_options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--output-dir", type=Path, default=Path("outputs/quickstart"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
