"""The unhangable batch, in small; `python -m benchmarks.hostile` is the whole."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("math_verify")
pytest.importorskip("reasoning_gym")


@pytest.mark.slow
def test_a_batch_with_hostile_answers_ends_in_time_with_every_honest_one_scored_right() -> None:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.hostile", "60", "120"]
    ran = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=300)
    claims = ran.stdout.splitlines()[-5:]
    assert [claim[:4] for claim in claims] == ["yes "] * 5, ran.stdout + ran.stderr
    assert ran.returncode == 0
