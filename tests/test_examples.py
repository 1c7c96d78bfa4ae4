"""Each example runs as its docstring says, and is short."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ["addition", "calculator", "gsm8k", "guess_number", "meetings"]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_is_one_file_of_60_lines_at_most(name):
    source = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    assert source.count("\n") <= 60
    assert f"python -m examples.{name}" in ast.get_docstring(ast.parse(source))


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_it_plays_its_gold_reply(name):
    command = [sys.executable, "-m", f"examples.{name}"]
    played = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    if name == "calculator":
        assert "reward: 1.0" in played.stdout
    else:
        assert json.loads(played.stdout)["reward"] >= 0.8
