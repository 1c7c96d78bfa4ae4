"""The cost of episodes in child processes, beside the same environment in this process.

The two play in turn, so that a busy machine slows both. A tool call answers at once; an episode opens, makes one call,
verifies and closes. Then 16 episodes at once, each with a tool that blocks for 0.3 s. One JSON line:

    python -m benchmarks.processes
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import time
from collections.abc import Awaitable, Callable

from gym_core import (
    Environment,
    EnvironmentFactory,
    Rollout,
    ScriptedPolicy,
    Task,
    assistant,
    in_processes,
    open_episode,
    tool,
    tool_call,
    user,
)

CALLS, EPISODES, ROUNDS = 1000, 300, 5
BLOCKING, NAP_S = 16, 0.3


class Desk(Environment):
    """Answers at once, or after a nap."""

    tasks = [Task([user("?")], id="desk")]

    @tool
    def echo(self, text: str) -> str:
        """Say the same.

        Args:
            text: What to say.
        """
        return text

    @tool
    async def echo_later(self, text: str) -> str:
        """Say the same, by an async tool.

        Args:
            text: What to say.
        """
        return text

    @tool
    def nap(self, seconds: float) -> int:
        """Sleep, and hold up everything else in the process.

        Args:
            seconds: How long.
        """
        time.sleep(seconds)
        return os.getpid()

    def verify(self, rollout: Rollout) -> float:
        return 1.0


async def call_ms(env: EnvironmentFactory, name: str) -> float:
    """Milliseconds per call of a tool, one after the other."""
    episode = open_episode(env, Desk.tasks[0])
    await episode.open()
    call = tool_call(name, '{"text": "as long as a short answer of a tool is"}')
    started_s = time.perf_counter()
    for _ in range(CALLS):
        await episode.call(call)
    spent_s = time.perf_counter() - started_s
    assert (await episode.finish()).reward == 1.0
    return spent_s / CALLS * 1000


async def episode_ms(env: EnvironmentFactory) -> float:
    """Milliseconds per episode, one after the other."""
    started_s = time.perf_counter()
    for _ in range(EPISODES):
        await _play(env, "echo", '{"text": "?"}')
    return (time.perf_counter() - started_s) / EPISODES * 1000


async def blocking_s(env: EnvironmentFactory) -> float:
    """Seconds that blocking episodes take when they are played at once."""
    started_s = time.perf_counter()
    await asyncio.gather(*(_play(env, "nap", json.dumps({"seconds": NAP_S})) for _ in range(BLOCKING)))
    return time.perf_counter() - started_s


async def replaced_ms(env: EnvironmentFactory) -> float:
    """Milliseconds from the death of the only child to the end of the next episode."""
    pid = int((await _play(env, "nap", '{"seconds": 0}')).output[-2]["content"])  # type: ignore[arg-type]
    os.kill(pid, signal.SIGKILL)
    started_s = time.perf_counter()
    await _play(env, "echo", '{"text": "?"}')
    return (time.perf_counter() - started_s) * 1000


async def _play(env: EnvironmentFactory, name: str, arguments: str) -> Rollout:
    replies = [assistant(tool_calls=[tool_call(name, arguments)]), "done"]
    return (await open_episode(env, Desk.tasks[0]).run(ScriptedPolicy(replies))).raise_for_error()


async def measure() -> dict[str, float]:
    """All figures; medians of `ROUNDS`."""
    one, many = in_processes(Desk, 1), in_processes(Desk, BLOCKING)
    started_s = time.perf_counter()
    await episode_ms(one)
    first_s = time.perf_counter() - started_s
    await blocking_s(many)
    measures: dict[str, Callable[[], Awaitable[float]]] = {
        "call_ms": lambda: call_ms(one, "echo"),
        "call_here_ms": lambda: call_ms(Desk, "echo"),
        "async_call_ms": lambda: call_ms(one, "echo_later"),
        "async_call_here_ms": lambda: call_ms(Desk, "echo_later"),
        "episode_ms": lambda: episode_ms(one),
        "episode_here_ms": lambda: episode_ms(Desk),
        "blocking_s": lambda: blocking_s(many),
        "blocking_here_s": lambda: blocking_s(Desk),
        "replaced_ms": lambda: replaced_ms(one),
    }
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(ROUNDS):
        for name, take in measures.items():
            found[name].append(await take())
    return {"first_s": first_s, **{name: statistics.median(figures) for name, figures in found.items()}}


def main() -> None:
    """Print one JSON line."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    figures = {**asyncio.run(measure()), "load": os.getloadavg()[0]}
    print(json.dumps({"benchmark": "processes", **{name: round(value, 3) for name, value in figures.items()}}))


if __name__ == "__main__":
    main()
