"""Environments that the tests name as `tests.verl.environments:...`, as verl's processes find them."""

import asyncio
import os
import threading
import time

from gym_core import Environment, Score, Task, ToolError, tool, user


class Adder(Environment):
    """Add two numbers with a tool, then say the sum."""

    tasks = [Task([user(f"{i} + 1?")], answer=i + 1) for i in range(8)]
    max_turns = 3

    @tool
    def add(self, a: int, b: int | None = None) -> str:
        """Add two numbers.

        Args:
            a: The first.
            b: The second.
        """
        if b is None:
            raise ToolError("b is missing")
        return str(a + b)

    def verify(self, rollout):
        return Score(float(str(self.task.answer) in rollout.last_reply), {"calls": float(rollout.tool_calls)})


class Echo(Environment):
    """Say the answer."""

    tasks = [Task([user(f"Say {i}.")], answer=str(i)) for i in range(8)]

    def verify(self, rollout):
        if rollout.last_reply == "break":
            raise RuntimeError("the verifier broke")
        return Score(float(rollout.last_reply == self.task.answer), {"length": len(rollout.last_reply), "reward": 1.0})


class Dialog(Environment):
    """The environment opens, and answers as a user twice."""

    tasks = [Task([], answer="c", id=f"dialog{i}") for i in range(2)]

    def setup(self):
        self.said = []
        return [user("a?")]

    def respond(self, message):
        self.said.append(message["content"])
        return user(f"{len(self.said)} more?") if len(self.said) < 3 else None

    def verify(self, rollout):
        return float(self.said == ["a", "b", "c"])


class Blocking(Echo):
    """Its verifier blocks the loop it is on."""

    def verify(self, rollout):
        time.sleep(0.3)
        return 1.0


class Counting(Echo):
    """Counts how many of it live at a time."""

    living = 0
    most = 0
    lock = threading.Lock()

    async def setup(self):
        with Counting.lock:
            Counting.living += 1
            Counting.most = max(Counting.most, Counting.living)
        await asyncio.sleep(0.01)

    def close(self):
        with Counting.lock:
            Counting.living -= 1


class Ranked(Environment):
    """The longest reply of a group wins."""

    tasks = [Task([user("Long, please.")], id="ranked")]

    def verify(self, rollout):
        return 0.0

    @classmethod
    def verify_group(cls, rollouts):
        longest = max(len(rollout.last_reply) for rollout in rollouts)
        return [float(len(rollout.last_reply) == longest) for rollout in rollouts]


class Unmade(Echo):
    """Can't be set up."""

    def setup(self):
        raise RuntimeError("no browser")


class Process(Echo):
    """Lives in an actor: says which process it is in, and can kill it."""

    tasks = [Task([user("Where?")], id="process")]

    @tool
    def where(self) -> str:
        """Say which process this is."""
        return str(os.getpid())

    @tool
    def die(self) -> str:
        """End the process."""
        os._exit(1)

    def verify(self, rollout):
        return 1.0
