"""The cost of slow tools in a step of GRPOTrainer: 64 rollouts with a tool that takes 0.3 s, called once or twice.

The same conversations are played through `gym_rollout`, through `gym_environment`, and through an environment written
by hand for TRL's `environment_factory`, whose loop runs the tools of one rollout after those of another. The model's
words are scripted, so generation costs nothing. It takes two minutes on a CPU, nearly all of them in TRL's loop. One
JSON line, in seconds per step and in tool latencies per turn of calls:

    python -m benchmarks.trl_tools
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import warnings
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # TRL's own switch for its notices

import torch
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from gym_adapters.trl import gym_dataset, gym_environment, gym_reward, gym_rollout
from gym_adapters.trl.testing import char_tokenizer, script, tiny_model
from gym_core import Environment, Rollout, Task, tool, user

ROLLOUTS = 64
TOOL_S = 0.3
CALL = '<call>look_up {"word": "gym"}</call><eos>'


async def meaning(word: str) -> str:
    """The tool's answer, after a while."""
    await asyncio.sleep(TOOL_S)
    return f"{word}: a place to train"


class Dictionary(Environment):
    """Look a word up and say that it is done."""

    tasks = [Task([user(f"Look up word {number}.")]) for number in range(ROLLOUTS // 8)]

    @tool
    async def look_up(self, word: str) -> str:
        """Look a word up.

        Args:
            word: The word.
        """
        return await meaning(word)

    def verify(self, rollout: Rollout) -> float:
        return float(rollout.last_reply == "done")


class DictionaryForTRL:
    """The same, written for TRL by hand: every public method is a tool."""

    def reset(self, **_: Any) -> None:
        """Nothing to prepare."""

    async def look_up(self, word: str) -> str:
        """Look a word up.

        Args:
            word: The word.
        """
        return await meaning(word)


def is_done(completions: list[Any], **_: Any) -> list[float]:
    """The reward for the environment written by hand."""
    return [float(completion[-1]["content"] == "done") for completion in completions]


HOOKS: dict[str, dict[str, Any]] = {
    "gym_rollout": {"rollout_func": gym_rollout(Dictionary), "reward_funcs": gym_reward(Dictionary)},
    "gym_environment": {"environment_factory": gym_environment(Dictionary), "reward_funcs": gym_reward(Dictionary)},
    "environment_factory": {"environment_factory": DictionaryForTRL, "reward_funcs": is_done},
}


def step_s(hook: dict[str, Any], *, turns: int) -> float:
    """Seconds of one step in which every rollout calls the tool in `turns` turns."""
    tokenizer = char_tokenizer()
    model = tiny_model(tokenizer, hidden_size=32)
    script(model, tokenizer, lambda said: CALL if said.count("<tool>") < turns else "done<eos>")
    with tempfile.TemporaryDirectory() as directory:
        trainer = GRPOTrainer(
            model=model,
            args=config(directory),
            processing_class=tokenizer,
            train_dataset=gym_dataset(Dictionary),
            **hook,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    (log,) = (log for log in trainer.state.log_history if "step_time" in log)
    assert log["reward"] == 1.0
    return float(log["step_time"])


def config(directory: str) -> GRPOConfig:
    """One step."""
    return GRPOConfig(
        output_dir=directory,
        max_steps=1,
        per_device_train_batch_size=ROLLOUTS,
        num_generations=8,
        max_completion_length=256,
        activation_checkpointing=False,
        use_cpu=True,
        bf16=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def figures(turns: int) -> dict[str, Any]:
    """The cost of one step through each hook."""
    seconds = {name: step_s(hook, turns=turns) for name, hook in HOOKS.items()}
    return {
        "step_s": {name: round(value, 2) for name, value in seconds.items()},
        "latencies_per_turn": {name: round(value / TOOL_S / turns, 1) for name, value in seconds.items()},
        "environment_factory_over_gym_rollout": round(seconds["environment_factory"] / seconds["gym_rollout"], 1),
    }


def main() -> None:
    """Print one JSON line."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)  # of transformers to TRL
    torch.set_num_threads(1)  # matrices as small as these are slower on more
    step_s(HOOKS["gym_rollout"], turns=1)  # warm
    by_turns = {f"turns_{turns}": figures(turns) for turns in (1, 2)}
    figures_of_all = {"rollouts": ROLLOUTS, "tool_s": TOOL_S, **by_turns, "load": os.getloadavg()[0]}
    print(json.dumps({"benchmark": "trl_tools", **figures_of_all}))


if __name__ == "__main__":
    main()
