"""The cost of a call in a killable child process, and of poison to the calls beside it: ours and two libraries'.

`Workers`, `pebble.ProcessPool` and `concurrent.futures.ProcessPoolExecutor` run the same functions in two processes
each, in turn, with a limit of a second: of CPU time for ours, of wall time for pebble; the last has none, and its calls
are given up after `PATIENCE_S`. CPU time is that of all processes. A table, and one JSON line:

    pip install pebble
    python -m benchmarks.workers
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import resource
import signal
import statistics
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pebble import ProcessPool

from gym_core.processes import Workers
from gym_core.processes.kernel import cpu_s

SIZE = 2
CALLS = 2000
ROUNDS = 5
GOOD, POISON = 60, 4
LIMIT_S = 1.0
MEMORY_BYTES = 1 << 30
PATIENCE_S = 20.0

Call = Callable[..., Awaitable[Any]]
"""Awaits a function's result: `await call(function, *args)`."""


def double(number: int) -> int:
    return 2 * number


def loop() -> None:
    re.match("(a+)+$", "a" * 64 + "b")  # in C, with the GIL


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def eat_memory() -> int:
    return len(bytearray(4 * MEMORY_BYTES))


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


@dataclass
class Pool:
    """A pool under test: how to call it, and how to be rid of it."""

    call: Call
    close: Callable[[], None]


def ours() -> Pool:
    workers = Workers(SIZE, memory_bytes=MEMORY_BYTES)

    def call(function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        return workers.call(f"benchmarks.workers:{function.__name__}", *args, cpu_s=LIMIT_S)

    return Pool(call, workers.close)


def pebble() -> Pool:
    pool = ProcessPool(SIZE, context=multiprocessing.get_context("forkserver"), initializer=limit_memory)

    def close() -> None:
        pool.stop()
        pool.join(5)

    return Pool(lambda function, *args: asyncio.wrap_future(pool.schedule(function, args=args, timeout=LIMIT_S)), close)


def executor() -> Pool:
    pool = ProcessPoolExecutor(SIZE, multiprocessing.get_context("forkserver"), initializer=limit_memory)

    def close() -> None:
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()

    async def call(function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.wrap_future(pool.submit(function, *args))  # submit itself raises once the pool is broken

    return Pool(call, close)


async def costs(pools: dict[str, Pool]) -> dict[str, dict[str, float]]:
    """Milliseconds a call, one by one and `CALLS` at once: medians of `ROUNDS`, the pools in turn."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in pools}
    for pool in pools.values():
        await asyncio.gather(*[pool.call(double, number) for number in range(4 * SIZE)])
    for _ in range(ROUNDS):
        for name, pool in pools.items():
            one, many = await _cost(_one_by_one, pool.call), await _cost(_all_at_once, pool.call)
            found[name].append({"ms": one[0], "cpu_ms": one[1], "at_once_ms": many[0], "at_once_cpu_ms": many[1]})
    return {
        name: {key: statistics.median(f[key] for f in rounds) for key in rounds[0]} for name, rounds in found.items()
    }


async def _cost(run: Callable[[Call], Awaitable[None]], call: Call) -> tuple[float, float]:
    started_s, started_cpu_s = time.perf_counter(), _cpu_s(os.getpid())
    await run(call)
    return tuple(
        1000 / CALLS * spent for spent in (time.perf_counter() - started_s, _cpu_s(os.getpid()) - started_cpu_s)
    )


def _cpu_s(pid: int) -> float:
    children = [child for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]
    return cpu_s(pid) + sum(_cpu_s(int(child)) for child in children)


async def _one_by_one(call: Call) -> None:
    for number in range(CALLS):
        assert await call(double, number) == 2 * number


async def _all_at_once(call: Call) -> None:
    assert await asyncio.gather(*[call(double, number) for number in range(CALLS)]) == list(range(0, 2 * CALLS, 2))


async def measure(makers: dict[str, Callable[[], Pool]]) -> dict[str, dict[str, float]]:
    """The costs of each pool, and what each poison does to it."""
    pools = {name: make() for name, make in makers.items()}
    figures = await costs(pools)
    for pool in pools.values():
        await asyncio.to_thread(pool.close)
    for poison in (loop, die, eat_memory):
        for name, make in makers.items():
            harm = await _poison(make(), poison)
            figures[name] |= {f"{poison.__name__}: {key}": value for key, value in harm.items()}
    return figures


async def _poison(pool: Pool, poison: Callable[[], object]) -> dict[str, float]:
    """Good answers lost of 60 among which 4 poison calls are spread, and how long a good call takes after one alone."""
    await asyncio.gather(*[pool.call(double, number) for number in range(4 * SIZE)])
    every = (GOOD + POISON) // POISON
    calls = [pool.call(poison) if n % every == 0 else pool.call(double, n) for n in range(GOOD + POISON)]
    started_s = time.perf_counter()
    right = [await _answer(call, started_s) == 2 * n for n, call in enumerate(map(asyncio.ensure_future, calls))]
    batch_s = time.perf_counter() - started_s
    started_s = time.perf_counter()
    await _answer(asyncio.ensure_future(pool.call(poison)), started_s)
    started_s = time.perf_counter()
    has_recovered = await _answer(asyncio.ensure_future(pool.call(double, 1)), started_s) == 2
    recovery_ms = (time.perf_counter() - started_s) * 1000 if has_recovered else float("inf")
    await asyncio.to_thread(pool.close)
    return {"lost": GOOD - sum(right), "batch_s": batch_s, "recovery_ms": recovery_ms}


async def _answer(call: asyncio.Future[Any], started_s: float) -> object:
    try:
        return await asyncio.wait_for(call, max(0.1, started_s + PATIENCE_S - time.perf_counter()))
    except Exception as error:  # each library raises its own
        return error


def main() -> None:
    """Print a table and a JSON line."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    figures = asyncio.run(measure({"Workers": ours, "pebble": pebble, "ProcessPoolExecutor": executor}))
    print(f"{'':28}" + "".join(f"{name:>22}" for name in figures))
    for row in figures["Workers"]:
        print(f"{row:28}" + "".join(f"{columns[row]:22.3f}" for columns in figures.values()))
    print(json.dumps({"benchmark": "workers", "load": os.getloadavg()[0], **figures}))


if __name__ == "__main__":
    main()
