"""A model of 89 thousand parameters finds out that a calculator pays, in verl's own trainer: six minutes on a CPU.

The model is made on the spot and warmed up on conversations, half of which call the calculator and half guess, and
then on more, one in ten of which calls it: it can call, and hardly ever will. GRPO then lets it play `Calculator` and
rewards what is right. From the root of the repository:

    python -m examples.verl.learn
"""

import argparse
import json
import random
import shutil
import sys
import time
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from examples.calculator import Calculator
from examples.trl.curve import RewardCurve
from examples.trl.warm_up import warm_up
from gym_adapters.verl.data import write_data
from gym_adapters.verl.entries import overrides
from gym_adapters.verl.rows import Source
from gym_adapters.verl.testing import char_tokenizer, main_ppo, save_model, tiny_model
from gym_core import Task, assistant, text, tool_call

SHARES = (0.5, 0.1)
"""Shares of the demonstrations that call the calculator, in the first warm-up and in the second."""


def main() -> None:
    """Warm up, train, draw the rewards, and exit with 1 unless they have tripled."""
    options = parse_options()
    started_s = time.monotonic()
    torch.set_num_threads(1)  # matrices as small as these are slower on more
    model_dir = options.output_dir / "model"
    print("Warming up a model ...", flush=True)
    make_model(model_dir, seed=options.seed)
    print(f"Training it, as {options.output_dir / 'main_ppo.log'} tells ...", flush=True)
    steps = train(options, model_dir)

    curve = RewardCurve(every=1)
    curve.rewards = [step["critic/score/mean"] for step in steps if "critic/score/mean" in step]
    first, last = fmean(curve.rewards[:3]), fmean(curve.rewards[-3:])
    change = f"mean reward {first:.2f} → {last:.2f}, first and last 3 steps"
    title = f"Calculator in verl, {options.steps} steps of GRPO, seed {options.seed}\n{change}"
    curve.save(options.output_dir / "reward.png", title=title)
    minutes = (time.monotonic() - started_s) / 60
    print(f"{change}, in {minutes:.1f} minutes; see reward.png and rollouts in {options.output_dir}")
    if last < 3 * first:
        sys.exit(f"the reward must triple from {first:.2f}, not end at {last:.2f}: the model has not learned")


def make_model(folder: Path, *, seed: int) -> None:
    """Save a model that knows how the calculator is called, and seldom calls it."""
    tokenizer, chooser = char_tokenizer(), random.Random(seed)
    model = tiny_model(tokenizer, seed=seed)
    for share in SHARES:
        warm_up(model, tokenizer, tasks=Calculator.tasks, chooser=chooser, replies=partial(call_or_guess, share=share))
    save_model(folder, model, tokenizer)


def call_or_guess(task: Task, chooser: random.Random, *, share: float) -> list[Any]:
    """Call the calculator in a share of the conversations, or guess a sum."""
    if chooser.random() > share:
        return [str(chooser.randint(2, 18))]
    expression = json.dumps({"expression": text(task.prompt[-1])})
    return [assistant(tool_calls=[tool_call("calculate", expression)]), str(task.answer)]


def train(options: argparse.Namespace, model_dir: Path) -> list[dict[str, Any]]:
    """Train on eight rollouts of each of sixteen tasks per step; returns verl's metrics of every step."""
    sources, data_dir = [Source("examples.calculator:Calculator")], options.output_dir / "data"
    write_data(sources, data_dir, train=80, val=1)
    shutil.rmtree(options.output_dir / "rollouts", ignore_errors=True)  # agent loops append to it
    arguments = [
        *overrides(sources, data_dir),
        f"data.seed={options.seed}",
        "data.max_prompt_length=32",
        "data.max_response_length=128",
        "data.train_batch_size=16",
        f"actor_rollout_ref.model.path={model_dir}",
        "actor_rollout_ref.rollout.n=8",
        f"+actor_rollout_ref.rollout.custom.gym.rollouts_dir={options.output_dir / 'rollouts'}",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=128",
        "actor_rollout_ref.actor.ppo_mini_batch_size=4",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=32",
        "actor_rollout_ref.actor.optim.lr=5e-4",
        f"trainer.total_training_steps={options.steps}",
        f"trainer.total_epochs={options.steps}",
        "trainer.test_freq=-1",
        "trainer.save_freq=-1",
    ]
    return main_ppo(arguments, output_dir=options.output_dir)


def parse_options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--output-dir", type=Path, default=Path("outputs/verl_learn"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
