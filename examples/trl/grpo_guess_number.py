"""A model of 89 thousand parameters learns to search: a game of user turns, two minutes on a CPU, no downloads.

The model is made on the spot and warmed up on games of random guesses; in three games of ten the guesses heed the
answers. GRPO then lets it play, and it comes close to binary search, which nobody showed it.

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
from examples.trl.warm_up import heed_or_guess, warm_up
from gym_adapters.trl import gym_dataset, gym_reward, gym_rollout
from gym_adapters.trl.testing import char_tokenizer, tiny_model
from gym_core import Task, user

GOAL = 0.7  # random guesses that heed the answers earn 0.66, binary search earns 0.80


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
    (options.output_dir / "rollouts.jsonl").unlink(missing_ok=True)  # rewards are appended to it
    tokenizer = char_tokenizer()
    model = tiny_model(tokenizer, seed=options.seed)
    print(f"Warming up a model of {model.num_parameters():,} parameters ...", flush=True)
    chooser = random.Random(options.seed)
    warm_up(model, tokenizer, env=SmallGuess, tasks=SmallGuess.tasks, replies=heed_or_guess, chooser=chooser)
    curve = RewardCurve(every=20, evaluated="all")  # a model would never guess a secret that was held out
    trainer = GRPOTrainer(
        model=model,
        args=config(options),
        processing_class=tokenizer,
        train_dataset=gym_dataset(SmallGuess),
        eval_dataset=gym_dataset(SmallGuess),
        reward_funcs=gym_reward(SmallGuess, rollouts_dir=options.output_dir),
        rollout_func=gym_rollout(SmallGuess),  # `environment_factory` has no user turns
        callbacks=[curve],
    )
    trainer.remove_callback(PrinterCallback)  # the curve is easier to read than a dict of all metrics
    trainer.evaluate()
    trainer.train()
    trainer.evaluate()
    before, after = curve.held_out[0], curve.held_out[options.steps]
    change = f"mean reward {before:.2f} → {after:.2f}; binary search has 0.80"
    curve.save(options.output_dir / "reward.png", title=f"SmallGuess, {options.steps} steps of GRPO\n{change}")
    print(f"{change}; see reward.png and rollouts.jsonl in {options.output_dir}")
    if after < GOAL:
        sys.exit(f"the reward must rise to {GOAL}, not {after:.2f}: the model has not learned")


def config(options: argparse.Namespace) -> GRPOConfig:
    """Sixteen rollouts of each secret per step."""
    return GRPOConfig(
        output_dir=str(options.output_dir),
        seed=options.seed,
        max_steps=options.steps,
        learning_rate=2e-3,
        lr_scheduler_type="constant",
        adam_beta2=0.98,
        max_grad_norm=0.2,
        scale_rewards="none",  # else the rare luck with a hard secret weighs most
        per_device_train_batch_size=128,
        per_device_eval_batch_size=128,
        num_generations=16,
        max_completion_length=48,
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
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--output-dir", type=Path, default=Path("outputs/guess_number"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
