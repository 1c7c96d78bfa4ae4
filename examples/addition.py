"""Additions in one reply, for a model that has to learn to be brief and right.

python -m examples.addition
"""

import asyncio

from gym_core import Environment, Rollout, ScriptedPolicy, Task, rollout, system, user
from gym_core.verifiers import number_match


class Addition(Environment):
    """Add two digits from 1 to 9 in one reply; its last number counts."""

    tasks = tuple(
        Task([system("Be brief."), user(f"What is {x}+{y}?")], answer=x + y) for x in range(1, 10) for y in range(1, 10)
    )

    def verify(self, rollout: Rollout) -> float:
        return number_match(rollout.last_reply, self.task.answer)


if __name__ == "__main__":
    print(asyncio.run(rollout(Addition(Addition.tasks[0]), ScriptedPolicy(["1+1 is 2."]))).to_json())
