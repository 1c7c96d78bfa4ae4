"""What it costs to run model-written code and commands, isolated, beside what one would use without this package.

A program with numpy is compared with a fresh interpreter; a session, its commands and its cells with plain
subprocesses, and with `docker run` and `docker exec` where an image is named and Docker is there. Each pair is measured
in turn, so that a busy machine slows both. One JSON line:

    python -m benchmarks.sandbox --image python:3.12-slim
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable

from gym_core.processes import Isolation, Sandbox

RUNS = 200
FRESH_EVERY = 10
SESSIONS, COMMANDS, CONTAINERS = 40, 5, 5
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


async def measure_session() -> dict[str, float]:
    """A session with numpy imported: opened, used and closed; in between, a plain shell."""
    sandbox = Sandbox(["numpy"])
    async with sandbox.session():
        pass  # the zygote has started
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(SESSIONS):
        box = sandbox.session()
        seconds["open"].append(await awaited_s(box.open()))
        await box.python("import numpy")
        for _ in range(COMMANDS):
            seconds["exec"].append(await awaited_s(box.exec("true")))
            seconds["plain"].append(command_s("bash", "-c", "true"))
            seconds["python"].append(await awaited_s(box.python("numpy.arange(4).sum()")))
            seconds["write"].append(await awaited_s(box.write("file", "text")))
            seconds["read"].append(await awaited_s(box.read("file")))
        seconds["close"].append(await awaited_s(box.close()))
    await asyncio.to_thread(sandbox.close)
    medians = {f"session_{name}_ms": statistics.median(found) * 1000 for name, found in seconds.items()}
    least = {f"session_{name}_min_ms": min(seconds[name]) * 1000 for name in ("open", "exec")}
    return {"plain_exec_ms": medians.pop("session_plain_ms"), **medians, **least}


async def awaited_s(work: Awaitable[object]) -> float:
    started_s = time.perf_counter()
    await work
    return time.perf_counter() - started_s


def command_s(*command: str) -> float:
    started_s = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started_s


def measure_docker(image: str) -> dict[str, float]:
    """A container that is started, used by `docker exec`, and removed."""
    runs, execs = [], []
    for number in range(CONTAINERS):
        name = f"gym-benchmark-{os.getpid()}-{number}"
        runs.append(command_s("docker", "run", "--detach", "--rm", f"--name={name}", image, "sleep", "600"))
        execs += [command_s("docker", "exec", name, "true") for _ in range(COMMANDS)]
        command_s("docker", "rm", "--force", name)
    return {"docker_run_ms": statistics.median(runs) * 1000, "docker_exec_ms": statistics.median(execs) * 1000}


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", help="an image with `sleep` and `true`, to measure Docker too")
    image = parser.parse_args().image
    isolated, bare = asyncio.run(measure("namespaces")), asyncio.run(measure("none"))
    figures = {**isolated, "without_isolation_ms": bare["warm_ms"], **asyncio.run(measure_session())}
    if image and shutil.which("docker"):
        figures |= measure_docker(image)
    figures["load"] = os.getloadavg()[0]
    print(json.dumps({"benchmark": "sandbox", **{name: round(value, 2) for name, value in figures.items()}}))


if __name__ == "__main__":
    main()
