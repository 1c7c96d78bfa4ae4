"""The runs of examples/verl: their arguments are verl's; test_main_ppo.py runs one of them."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module

from gym_core import load_environment

ROOT = Path(__file__).parents[2]
RUNS = sorted((ROOT / "examples" / "verl").glob("*.sh"))
RUNS.remove(ROOT / "examples" / "verl" / "machine.sh")

SHOWN = """\
python() { [[ $2 == verl.trainer.main_ppo ]] && printf '%s\\n' "${@:3}"; return 0; }
source "$0" "$@"
"""
"""Runs a script with a `python` that prints the arguments of the trainer, and does nothing else."""


def arguments(script, *options):
    command = ["bash", "-c", SHOWN, str(script), *options]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.mark.parametrize("script", RUNS, ids=lambda path: path.stem)
@pytest.mark.parametrize("options", [[], ["--cpu"]], ids=["gpu", "cpu"])
def test_its_arguments_are_those_of_the_trainer(script, options):
    given = arguments(script, *options, "trainer.total_epochs=3")
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides=given)
    assert config.trainer.total_epochs == 3
    assert config.trainer.experiment_name == script.stem
    assert config.actor_rollout_ref.rollout.name == ("transformers" if options else "vllm")
    assert config.trainer.total_training_steps == (2 if options else None)


@pytest.mark.parametrize("script", RUNS, ids=lambda path: path.stem)
def test_its_environments_are_there(script):
    specs = re.findall(r"[a-z_.]+:[A-Za-z_]+(?=[\s)])", script.read_text(encoding="utf-8"))
    assert len(specs) == (2 if script.stem == "mix" else 1)
    for spec in specs:
        assert next(iter(load_environment(spec).tasks))


def test_there_is_one_of_each_kind():
    assert [script.stem for script in RUNS] == ["mix", "single_turn", "tools", "user_turns"]
    assert not any(os.access(script, os.X_OK) for script in RUNS)  # they are run by `bash`, as their first lines say
