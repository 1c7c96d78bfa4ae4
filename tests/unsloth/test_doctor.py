import subprocess
import sys

from gym_adapters.unsloth.imports import trl_version


def test_the_doctor_says_what_is_installed_and_what_trl_can_do():
    command = [sys.executable, "-m", "gym_adapters.unsloth", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert all(line.startswith("ok") for line in lines)
    assert f"ok      trl {'.'.join(map(str, trl_version()))}" in lines
    assert "ok      unsloth comes before trl, transformers and peft" in lines
    assert "ok      backend cpu, trainer GRPOTrainer" in lines
    assert "ok      gym_rollout can be used" in lines


def test_an_unknown_command_prints_the_usage():
    done = subprocess.run([sys.executable, "-m", "gym_adapters.unsloth"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.strip() == "usage: python -m gym_adapters.unsloth doctor"
