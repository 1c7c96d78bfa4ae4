"""Each script runs as its docstring says, asserts on its own results, and is short."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [
    "dpo_from_rollouts",
    "grpo_single_turn",
    "grpo_tools",
    "grpo_two_environments",
    "sft_from_rollouts",
    "sft_then_grpo",
]


def test_these_are_all():
    found = {path.stem for path in (ROOT / "examples" / "unsloth").glob("*.py")}
    assert found == {*SCRIPTS, "__init__", "demonstrations", "tiny"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_cells_of_under_80_lines_of_code(name):
    source = (ROOT / "examples" / "unsloth" / f"{name}.py").read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source), clean=False)
    code = re.sub(r"^ *#.*", "", source.replace(docstring, ""), flags=re.MULTILINE)
    assert sum(1 for line in code.splitlines() if line.strip()) < 80
    assert source.count("\n# %%") >= 4
    assert f"python -m examples.unsloth.{name} --smoke" in docstring


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_it_runs_on_a_cpu_by_its_path_or_as_a_module(name, tmp_path):
    path = [str(ROOT / "examples" / "unsloth" / f"{name}.py")]
    done = subprocess.run(  # half a minute each, so that half of them run one way and half the other
        [sys.executable, *(path if SCRIPTS.index(name) % 2 else ["-m", f"examples.unsloth.{name}"]), "--smoke"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
