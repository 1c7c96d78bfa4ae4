"""A game of user turns: the environment answers each guess, and fewer guesses earn more.

python -m examples.guess_number
gym-core run examples.guess_number:GuessNumber --base-url http://localhost:8000/v1 --model Qwen/Qwen3-0.6B
"""

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from gym_core import Environment, Message, Rollout, ScriptedPolicy, Task, jsonl, rollout, text, user


class GuessNumber(Environment):
    """Find the secret number from 1 to 100; the environment answers higher or lower."""

    tasks: ClassVar[Iterable[Task]] = jsonl(Path(__file__).with_suffix(".jsonl"))
    max_turns = 10

    def setup(self) -> None:
        self.solved = False

    def respond(self, message: Message) -> Message | None:
        numbers = re.findall(r"\d+", text(message))
        if not numbers:
            return user("Please guess a number.")
        guess = int(numbers[-1])
        self.solved = guess == self.task.answer
        if self.solved:
            return None
        return user("higher" if guess < self.task.answer else "lower")

    def verify(self, rollout: Rollout) -> float:
        return self.solved * (1 - 0.5 * (rollout.turns - 1) / self.max_turns)


if __name__ == "__main__":
    task = next(iter(GuessNumber.tasks))
    print(asyncio.run(rollout(GuessNumber(task), ScriptedPolicy(task.info["gold"]))).to_json())
