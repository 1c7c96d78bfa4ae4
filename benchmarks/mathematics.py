"""The cost of `math_match` beside math-verify: CPU time per pair, both in one run, on pairs that neither has seen.

Both are warm: they have judged other pairs before, and the hard ones with answer and completion exchanged, which builds
the tables of the parser and of sympy. Ours includes the CPU time of its workers, and no verdict is cached. One JSON
line:

    python -m benchmarks.mathematics [PAIRS]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import time
from collections import defaultdict
from pathlib import Path

from math_verify import parse, verify

from benchmarks.math_cases import HARD
from benchmarks.math_pairs import Pair, golden_pairs
from gym_core.processes import shared_workers
from gym_core.verifiers import math_match
from gym_core.verifiers.math.match import MATH_VERIFY

WARM_UP = 600


def reference(pair: Pair) -> float:
    """The verdict of math-verify, called as its documentation says."""
    return float(verify(parse(f"\\boxed{{{pair.gold}}}"), parse(pair.completion)))


async def measure(pairs: list[Pair]) -> dict[str, object]:
    """Mean CPU milliseconds per pair, by part of the golden set and of all."""
    ours_ms: dict[str, list[float]] = defaultdict(list)
    theirs_ms: dict[str, list[float]] = defaultdict(list)
    disagreements = []
    for pair in pairs:
        children_ms, started_s = _children_ms(), time.process_time()
        ours = await math_match(pair.completion, pair.gold)
        spent_ms = (time.process_time() - started_s) * 1000
        ours_ms[pair.part].append(spent_ms + _children_ms() - children_ms)
        started_s = time.process_time()
        theirs = reference(pair)
        theirs_ms[pair.part].append((time.process_time() - started_s) * 1000)
        if ours != theirs:
            disagreements.append([pair.gold, pair.completion[-60:], ours, theirs])
    ours_mean = sum(map(sum, ours_ms.values())) / len(pairs)
    theirs_mean = sum(map(sum, theirs_ms.values())) / len(pairs)
    return {
        "benchmark": "mathematics",
        "pairs": len(pairs),
        "agreement": 1 - len(disagreements) / len(pairs),
        "disagreements": disagreements,
        "math_match_cpu_ms": round(ours_mean, 3),
        "math_verify_cpu_ms": round(theirs_mean, 3),
        "times_cheaper": round(theirs_mean / ours_mean, 1),
        "times_cheaper_by_part": {part: round(sum(theirs_ms[part]) / sum(ours_ms[part]), 1) for part in ours_ms},
        "load": round(os.getloadavg()[0], 2),
    }


def _children_ms() -> float:
    """CPU time of the workers and of their zygotes."""
    zygotes = _children("self")
    pids = zygotes + [worker for zygote in zygotes for worker in _children(zygote)]
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids) / 1e6


def _children(pid: str) -> list[str]:
    return [child for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


async def warm_up() -> None:
    """Judge other pairs; ours judges each of them in both workers."""
    exchanged = [Pair(f"\\boxed{{{gold}}}", found, "hard") for gold, found in HARD]
    for pair in exchanged + golden_pairs(WARM_UP, seed=1)[len(HARD) :]:
        reference(pair)
        calls = [shared_workers().call(MATH_VERIFY, pair.gold, pair.completion, cpu_s=60) for _ in range(2)]
        await asyncio.gather(*calls)


async def measured(size: int) -> dict[str, object]:
    """The figures of a number of pairs, after a warm-up."""
    await warm_up()
    return await measure(golden_pairs(size))


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=int, nargs="?", default=3000)
    print(json.dumps(asyncio.run(measured(parser.parse_args().pairs))))


if __name__ == "__main__":
    logging.disable()
    main()
