"""The cost of our side of a rollout: CPU time at concurrency 256, memory of 10,000 live rollouts, import time.

The task takes three turns with a calculator (two tool calls and an answer), and the policy answers at once. One JSON
line:

    python -m benchmarks.rollouts
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

from gym_core import (
    Completion,
    Environment,
    Message,
    Rollout,
    Task,
    ToolSchema,
    assistant,
    collect,
    tool,
    tool_call,
    user,
)

LIVE = 10_000


class Calculator(Environment):
    """Two sums and an answer."""

    tasks = [Task([user("What is 1+2+3?")], answer="6")]

    @tool
    def add(self, a: int, b: int) -> int:
        """Add two numbers.

        Args:
            a: The first number.
            b: The second number.
        """
        return a + b

    def verify(self, rollout: Rollout) -> float:
        return float(rollout.last_reply == self.task.answer)


SCRIPT = [
    assistant(tool_calls=[tool_call("add", '{"a": 1, "b": 2}')]),
    assistant(tool_calls=[tool_call("add", '{"a": 3, "b": 3}')]),
    assistant("6"),
]


async def instant(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> Completion:
    """Answer at once, after a switch to the other episodes."""
    await asyncio.sleep(0)
    return Completion(SCRIPT[len(messages) // 2])


async def cpu_ms(rollouts: int) -> float:
    """CPU milliseconds per rollout, 256 at a time."""
    started = time.process_time()
    async for rollout in collect(Calculator, instant, samples=rollouts, concurrency=256):
        assert rollout.reward == 1.0
    return (time.process_time() - started) / rollouts * 1000


async def live_mb() -> float:
    """Megabytes that `LIVE` rollouts take while all of them wait for their policy."""
    gate, waiting, all_wait = asyncio.Event(), 0, asyncio.Event()

    async def held(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> Completion:
        nonlocal waiting
        if len(messages) == 5:  # the last turn
            waiting += 1
            if waiting == LIVE:
                all_wait.set()
            await gate.wait()
        return Completion(SCRIPT[len(messages) // 2])

    async def play() -> int:
        return sum(
            [rollout.reward == 1.0 async for rollout in collect(Calculator, held, samples=LIVE, concurrency=LIVE)]
        )

    before = _resident_mb()
    playing = asyncio.create_task(play())
    await all_wait.wait()
    taken = _resident_mb() - before
    gate.set()
    assert await playing == LIVE
    return taken


def import_ms() -> float:
    """Milliseconds that `import gym_core` takes in a fresh interpreter, above the interpreter's own; best of 5."""

    def best(code: str) -> float:
        times = []
        for _ in range(5):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append(time.perf_counter() - started)
        return min(times) * 1000

    return best("import gym_core") - best("pass")


def _resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    """Print one JSON line."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    asyncio.run(cpu_ms(2_000))  # warm
    figures = {
        "cpu_ms_per_rollout": min(asyncio.run(cpu_ms(10_000)) for _ in range(3)),
        "live_rollouts": LIVE,
        "live_mb": asyncio.run(live_mb()),
        "import_ms": import_ms(),
        "load": os.getloadavg()[0],
    }
    print(json.dumps({"benchmark": "rollouts", **{name: round(value, 3) for name, value in figures.items()}}))


if __name__ == "__main__":
    main()
