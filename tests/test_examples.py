"""Every example and benchmark runs by its path and as a module; an environment is short and plays its gold reply."""

import ast
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ["addition", "calculator", "gsm8k", "guess_number", "meetings", "terminal"]
SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for folder in ("examples", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if "\nif __name__ ==" in path.read_text(encoding="utf-8") and path.stem not in ENVIRONMENTS
)
HEAVY = [script for script in SCRIPTS if re.search("trl|torch", (ROOT / script).read_text(encoding="utf-8"))]
"""What they import takes ten seconds, so they share a process."""
IN_ONE_PROCESS = """
import os, runpy, sys
scripts, sys.argv = sys.argv[1:], ["", "--help"]
for script in scripts:
    for run, name in (runpy.run_path, script), (runpy.run_module, script.removesuffix(".py").replace("/", ".")):
        sys.path[0] = os.path.dirname(os.path.abspath(script)) if run is runpy.run_path else os.getcwd()
        try:
            run(name, run_name="__main__")
        except SystemExit as ended:
            assert not ended.code, ended.code
"""
"""Runs scripts with --help, each by its path and as a module."""


def output_of(command, folder):
    """What a command prints; the test is skipped where a library that it imports is not installed."""
    ran = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=120)
    missing = re.search(r"No module named '(\w+)", ran.stderr)
    if ran.returncode and missing and find_spec(missing[1]) is None:
        pytest.skip(f"{missing[1]} is not installed")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_is_one_file_of_60_lines_at_most(name):
    source = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    assert source.count("\n") <= 60
    assert f"python -m examples.{name}" in ast.get_docstring(ast.parse(source))


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_plays_its_gold_reply_by_its_path_and_as_a_module(name, tmp_path):
    printed = output_of(["-m", f"examples.{name}"], ROOT)
    assert "reward: 1.0" in printed if name == "calculator" else json.loads(printed)["reward"] >= 0.8
    assert "reward" in output_of([str(ROOT / "examples" / f"{name}.py")], tmp_path)


def test_no_script_has_a_neighbour_named_like_a_module_of_python():
    folders = {(ROOT / script).parent for script in SCRIPTS} | {ROOT, ROOT / "examples" / "unsloth"}
    names = {path.stem: str(path) for folder in folders for path in folder.iterdir() if path.suffix in ("", ".py")}
    assert {names[name] for name in names.keys() & sys.stdlib_module_names} == set()


@pytest.mark.slow
@pytest.mark.parametrize("script", [script for script in SCRIPTS if script not in HEAVY])
def test_a_script_runs_by_its_path_and_as_a_module(script, tmp_path):
    assert "usage:" in output_of([str(ROOT / script), "--help"], tmp_path)
    assert "usage:" in output_of(["-m", script.removesuffix(".py").replace("/", "."), "--help"], ROOT)


@pytest.mark.slow
@pytest.mark.parametrize("library", ["trl", "unsloth"])
def test_a_script_that_trains_runs_by_its_path_and_as_a_module(library):
    scripts = [script for script in HEAVY if ("unsloth" in script) == (library == "unsloth")]
    assert output_of(["-c", IN_ONE_PROCESS, *scripts], ROOT).count("usage:") == 2 * len(scripts) > 0
