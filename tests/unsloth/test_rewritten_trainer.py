"""The GRPOTrainer that Unsloth generates for GPUs, run on a CPU by private names of Unsloth's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.canary
@pytest.mark.parametrize("hook", ["rollout_func", "environment_factory"])
def test_it_plays_our_environments(hook, tmp_path):
    done = subprocess.run(
        [sys.executable, str(HERE / "rewritten_trainer.py"), hook],
        cwd=tmp_path,  # Unsloth writes what it generates here
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = json.loads(done.stdout.splitlines()[-1])
    assert metrics["trainer"] == "UnslothGRPOTrainer"
    assert metrics["rewards/gym/Calculator/mean"] == 1.0
    assert metrics["gym/Calculator/tool_calls"] == 1.0
    # The first follows the model's dtype; the second counts tokens, and False means its old default.
    assert set(metrics["unstated"]) <= {"bf16", "include_num_input_tokens_seen"}
