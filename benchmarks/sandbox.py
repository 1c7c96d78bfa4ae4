"""What it costs to run model-written code: a warm, isolated run with numpy imported, beside a fresh interpreter.

One JSON line; the two are measured in turn, so that a busy machine slows both:

    python -m benchmarks.sandbox
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time

from gym_core.processes import Isolation, Sandbox

RUNS = 200
FRESH_EVERY = 10
CODE = "import numpy; print(numpy.arange(4).sum())"


def fresh_s() -> float:
    started_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True)
    return time.perf_counter() - started_s


async def warm_s(sandbox: Sandbox) -> tuple[float, float]:
    """Wall and CPU seconds; the CPU seconds are the run's own, from its fork to its end."""
    started_s = time.perf_counter()
    ran = await sandbox.run(CODE)
    assert ran.stdout == "6\n", ran
    return time.perf_counter() - started_s, ran.cpu_s


async def measure(isolation: Isolation) -> dict[str, float]:
    sandbox = Sandbox(["numpy"], isolation=isolation, size=2)
    for _ in range(5):
        await warm_s(sandbox)
    warm, fresh = [], []
    for number in range(RUNS):
        if number % FRESH_EVERY == 0:
            fresh.append(fresh_s())
        warm.append(await warm_s(sandbox))
    started_s = time.perf_counter()
    await asyncio.gather(*[warm_s(sandbox) for _ in range(RUNS)])
    a_second = RUNS / (time.perf_counter() - started_s)
    await asyncio.to_thread(sandbox.close)
    walls, cpus = zip(*warm, strict=True)
    return {
        "warm_ms": statistics.median(walls) * 1000,
        "warm_min_ms": min(walls) * 1000,
        "warm_cpu_ms": statistics.median(cpus) * 1000,
        "fresh_ms": statistics.median(fresh) * 1000,
        "fresh_min_ms": min(fresh) * 1000,
        "ratio": statistics.median(fresh) / statistics.median(walls),
        "runs_a_second": a_second,
    }


def main() -> None:
    """Print one JSON line."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    isolated, bare = asyncio.run(measure("namespaces")), asyncio.run(measure("none"))
    figures = {**isolated, "without_isolation_ms": bare["warm_ms"], "load": os.getloadavg()[0]}
    print(json.dumps({"benchmark": "sandbox", **{name: round(value, 2) for name, value in figures.items()}}))


if __name__ == "__main__":
    main()
