"""A model of 89 thousand parameters finds out how to search: a game of user turns, minutes on a CPU, no downloads.

The model is made on the spot and warmed up on games in which every guess is random. GRPO then lets it play, through
`rollout_func`, since the environment answers each guess as a user. From the root of the repository:

    python -m examples.trl.grpo_guess_number
"""

import argparse
import os
import random
import sys
import warnings
from pathlib import Path

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # TRL's own switch for its notice on rollout_func

import torch
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from examples.guess_number import GuessNumber
from examples.trl.curve import RewardCurve
from examples.trl.warm_up import warm_up
from gym_adapters.trl import gym_dataset, gym_reward, gym_rollout
from gym_adapters.trl.testing import char_tokenizer, tiny_model
from gym_core import Task, user

CEILING = (1 + 2 * 0.875 + 4 * 0.75 + 0.625) / 8
"""The mean reward of binary search: one secret of eight takes it one guess, two take two, four three, and one four."""

GOAL = 0.7


class SmallGuess(GuessNumber):
    """Find the secret number from 1 to 8 in four guesses; the environment answers higher or lower."""

    tasks = tuple(Task([user("1-8?")], answer=secret) for secret in range(1, 9))
    max_turns = 4


def main() -> None:
    """Warm up, evaluate, train, evaluate again, and exit with 1 unless the reward has risen to the goal."""
    # TRL 1.16 reads this property of a model by the name it had before transformers 5.23.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    torch.set_num_threads(1)  # matrices as small as these are slower on more
    options = parse_options()
    options.output_dir.mkdir(parents=True, exist_ok=True)
    (options.output_dir / "rollouts.jsonl").unlink(missing_ok=True)  # rewards are appended to it

    tokenizer = char_tokenizer()
    model = tiny_model(tokenizer, seed=options.seed)
    print(f"Warming up a model of {model.num_parameters():,} parameters ...", flush=True)
    chooser = random.Random(options.seed)
    warm_up(model, tokenizer, tasks=SmallGuess.tasks, chooser=chooser, env=SmallGuess, replies=guess_blindly)

    curve = RewardCurve(every=5)
    trainer = GRPOTrainer(
        model=model,
        args=config(options),
        processing_class=tokenizer,
        train_dataset=gym_dataset(SmallGuess),
        eval_dataset=gym_dataset(SmallGuess),
        reward_funcs=gym_reward(SmallGuess, rollouts_dir=options.output_dir),
        rollout_func=gym_rollout(SmallGuess),
        callbacks=[curve],
    )
    trainer.remove_callback(PrinterCallback)  # the curve is easier to read than a dict of all metrics
    trainer.evaluate()
    trainer.train()
    trainer.evaluate()

    before, after = curve.held_out[0], curve.held_out[options.steps]
    change = f"mean reward {before:.2f} → {after:.2f}; binary search has {CEILING:.2f}"
    curve.save(options.output_dir / "reward.png", title=f"SmallGuess, {options.steps} steps of GRPO\n{change}")
    print(f"{change}; see reward.png and rollouts.jsonl in {options.output_dir}")
    if after < GOAL:
        sys.exit(f"the reward must rise to {GOAL}, not {after:.2f}: the model has not learned")


def guess_blindly(task: Task, chooser: random.Random) -> list[str]:
    """As many random guesses as a game may take."""
    return [str(chooser.randint(1, 8)) for _ in range(SmallGuess.max_turns)]


def config(options: argparse.Namespace) -> GRPOConfig:
    """Eight rollouts of each secret a step."""
    return GRPOConfig(
        output_dir=str(options.output_dir),
        seed=options.seed,
        max_steps=options.steps,
        learning_rate=float(os.environ.get("LR", "5e-4")),
        lr_scheduler_type="constant",
        per_device_train_batch_size=64,
        per_device_eval_batch_size=256,
        num_generations=8,
        num_generations_eval=32,
        max_completion_length=48,
        scale_rewards=os.environ.get("SCALE", "group"),
        activation_checkpointing=False,
        use_cpu=True,
        bf16=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--output-dir", type=Path, default=Path("outputs/guess_number"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
