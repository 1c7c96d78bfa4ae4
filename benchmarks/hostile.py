"""The unhangable batch: a third of its answers are hostile, and it ends in time with every honest one scored right.

The answers go through five verifiers at once. A table and one JSON line; the exit status is 1 where a claim fails:

    python -m benchmarks.hostile [ANSWERS] [DEADLINE_S]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import time
from pathlib import Path

from benchmarks.hostile_answers import Answer, Verdict, answers
from gym_adapters.reasoning_gym.environment import ISOLATED
from gym_core.processes import Sandbox, shared_sandbox, shared_workers
from gym_core.processes.kernel import adopt_orphans

GRACE_S = 1.0
CUT, CUT_S = 100, 2.0
GROWTH_BYTES = 64 << 20


async def play(batch: list[Answer], deadline_s: float) -> tuple[list[Verdict], float]:
    """The verdicts, None for what was lost or cut off at the deadline; and the seconds it took."""
    started_s = time.monotonic()
    judging = [asyncio.ensure_future(answer.judge()) for answer in batch]
    _, late = await asyncio.wait(judging, timeout=deadline_s)
    for future in late:
        future.cancel()
    await asyncio.wait(judging)
    taken_s = time.monotonic() - started_s
    return [(None, "cut off") if future.cancelled() else future.result() for future in judging], taken_s


def table(batch: list[Answer], verdicts: list[Verdict]) -> str:
    """A row a verifier: honest answers and how many are scored right, hostile ones and what became of them."""
    columns = ("honest", "right", "hostile", "below 1", "none", "fooled")
    lines = [f"{'':16}" + "".join(f"{column:>9}" for column in columns)]
    for verifier in dict.fromkeys(answer.verifier for answer in batch):
        pairs = [(a.expected, reward) for a, (reward, _) in zip(batch, verdicts, strict=True) if a.verifier == verifier]
        honest = [reward == expected for expected, reward in pairs if expected is not None]
        hostile = [reward for expected, reward in pairs if expected is None]
        none, fooled = hostile.count(None), sum(reward is not None and reward >= 1 for reward in hostile)
        counts = (len(honest), sum(honest), len(hostile), len(hostile) - none - fooled, none, fooled)
        lines.append(f"{verifier:16}" + "".join(f"{number:9}" for number in counts))
    return "\n".join(lines)


async def run(size: int, deadline_s: float) -> dict[str, bool]:
    """Play the batches, print what became of them, and say which claims hold."""
    sandbox = Sandbox()
    batch = answers(size, sandbox)
    await play([answer for answer in batch if answer.expected is not None][:20], deadline_s)  # starts all processes
    before_bytes = _rss_bytes()
    verdicts, taken_s = await play(batch, deadline_s)
    after_bytes = _rss_bytes()
    print(table(batch, verdicts))
    pairs = [(answer, *verdict) for answer, verdict in zip(batch, verdicts, strict=True)]
    for answer, reward, reason in pairs:
        if answer.expected not in (None, reward):
            print(f"{answer.verifier}: an honest answer has the reward {reward}, not {answer.expected} {reason}")
    print(f"{taken_s:.1f} s of {deadline_s:g}; RSS {before_bytes >> 20} MB before, {after_bytes >> 20} MB after")
    hostile = [answer for answer in batch if answer.expected is None][:CUT]
    _, cut_s = await play(hostile, CUT_S)
    print(f"{len(hostile)} hostile answers with a deadline of {CUT_S:g} s: {cut_s:.2f} s")
    pools = (sandbox, shared_sandbox(ISOLATED), shared_workers())
    await asyncio.gather(*[asyncio.to_thread(pool.close) for pool in pools])
    return {
        "ends within its deadline and a second": taken_s < deadline_s + GRACE_S and cut_s < CUT_S + GRACE_S,
        "every honest answer is scored right": all(answer.expected in (None, reward) for answer, reward, _ in pairs),
        "no hostile answer is scored right": all(
            answer.expected is not None or reward != 1 for answer, reward, _ in pairs
        ),
        "no process is left": not _processes(),
        "memory returns": after_bytes - before_bytes < GROWTH_BYTES,
    }


def _rss_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _processes() -> list[str]:
    """Children of this process, which adopts all orphans; those that have ended are waited for."""
    time.sleep(0.5)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return []
    return [child for path in Path("/proc/self/task").glob("*/children") for child in path.read_text().split()]


def main() -> None:
    """Print the table and the claims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", type=int, nargs="?", default=1000)
    parser.add_argument("deadline_s", type=int, nargs="?", default=300)
    options = parser.parse_args()
    adopt_orphans()
    claims = asyncio.run(run(options.answers, options.deadline_s))
    print(json.dumps({"benchmark": "hostile", "answers": options.answers, "claims": claims}))
    for claim, holds in claims.items():
        print(f"{'yes' if holds else 'NO':4}{claim}")
    sys.exit(not all(claims.values()))


if __name__ == "__main__":
    main()
