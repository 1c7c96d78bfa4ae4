"""Rollouts that need no model, for `--smoke`."""

import asyncio
import random
from pathlib import Path

from examples.calculator import Calculator
from examples.trl.warm_up import call_or_guess
from gym_core import ScriptedPolicy, rollout, write_rollouts


def save_demonstrations(path: str, *, samples: int) -> str:
    """Save rollouts of every task of the calculator, three in ten of which call it; returns the path."""
    chooser = random.Random(3407)
    policies = [(task, ScriptedPolicy(call_or_guess(task, chooser))) for task in Calculator.tasks * samples]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).unlink(missing_ok=True)  # rollouts are appended
    write_rollouts(path, [asyncio.run(rollout(Calculator(task), policy)) for task, policy in policies])
    return path
