"""Grade-school math: one question, one number.

The tasks beside this file are in the format of GSM8K (Cobbe et al. 2021, arXiv:2110.14168) and were written for this
project; point `jsonl` at the real ones for a real run.

    python -m examples.gsm8k
    gym-core run examples.gsm8k:Gsm8k --base-url http://localhost:8000/v1 --model Qwen/Qwen3-0.6B
"""

import asyncio
from pathlib import Path

from gym_core import Environment, Rollout, Score, ScriptedPolicy, jsonl, rollout
from gym_core.verifiers import number_match


class Gsm8k(Environment):
    """Grade-school math: the answer is the number after the last '####'."""

    tasks = jsonl(Path(__file__).with_suffix(".jsonl"))

    def verify(self, rollout: Rollout) -> Score:
        correct = number_match(rollout.last_reply, self.task.answer, after="####")
        return Score(correct, {"correct": correct, "format": float("####" in rollout.last_reply)})


if __name__ == "__main__":
    task = next(iter(Gsm8k.tasks))
    played = asyncio.run(rollout(Gsm8k(task), ScriptedPolicy(["6 boxes of 12 eggs are 72 eggs.\n#### 72"])))
    print(played.to_json())
