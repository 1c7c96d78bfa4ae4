"""verl's own trainer, unmodified, on a CPU: runs of some minutes, most of which is verl being imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gym_adapters.verl.data import write_data
from gym_adapters.verl.entries import overrides
from gym_adapters.verl.rows import Source
from gym_adapters.verl.testing import main_ppo
from gym_core import read_rollouts

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).parents[2]
STEPS, PROMPTS, SAMPLES = 2, 4, 4


@pytest.fixture(scope="module")
def run(tmp_path_factory, model_path):
    """Two steps of GRPO with tools, in which one rollout fails: the logged metrics, and all rollouts."""
    folder = tmp_path_factory.mktemp("run")
    env = {"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}", "UNLUCKY_FILE": f"{folder}/unlucky"}
    (folder / "unlucky").touch()  # while the data is made, no one is unlucky
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        patch.setenv("UNLUCKY_FILE", env["UNLUCKY_FILE"])
        write_data([Source("unlucky:Unlucky")], folder, train=32, val=4)
        entries = overrides([Source("unlucky:Unlucky")], folder)
    (folder / "unlucky").unlink()
    entries += [
        f"data.train_batch_size={PROMPTS}",
        "data.max_prompt_length=64",
        "data.max_response_length=64",
        f"actor_rollout_ref.model.path={model_path}",
        f"actor_rollout_ref.rollout.n={SAMPLES}",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=16",
        f"+actor_rollout_ref.rollout.custom.gym.rollouts_dir={folder}/rollouts",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={PROMPTS}",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=16",
        f"trainer.total_training_steps={STEPS}",
    ]
    steps = main_ppo(entries, output_dir=folder / "run", env=env, timeout_s=900)
    rollouts = [rollout for file in (folder / "rollouts").iterdir() for rollout in read_rollouts(file)]
    return steps, rollouts


def test_the_trainer_computes_the_probabilities_that_the_rollouts_were_sampled_with(run):
    steps, _ = run
    assert [step["step"] for step in steps] == [1, 2]
    for step in steps:
        assert step["training/rollout_actor_probs_pearson_corr"] >= 0.999
        assert step["training/rollout_probs_diff_max"] < 1e-4


def test_the_metrics_of_the_environment_are_logged_at_every_step(run):
    steps, rollouts = run
    for step in steps:
        played = [rollout for rollout in rollouts if rollout.step == step["step"]]
        assert len(played) == PROMPTS * SAMPLES
        for name in ("turns", "tool_calls", "errors"):
            mean = sum(rollout.rates[name] for rollout in played) / len(played)
            assert step[f"gym/Unlucky/{name}"] == pytest.approx(mean)


def test_the_failed_rollout_is_recorded_without_a_token_of_the_policy(run):
    steps, rollouts = run
    (broken,) = [rollout for rollout in rollouts if rollout.error]
    assert broken.reward is None
    assert broken.error.kind == "setup"
    assert broken.error.message == "RuntimeError: the calculator is gone"
    assert broken.tokens is None
    assert steps[broken.step - 1]["response_length/min"] == 1  # what stands for it; test_agent_loop.py has its mask
    assert steps[broken.step - 1]["gym/Unlucky/unscored"] == pytest.approx(1 / (PROMPTS * SAMPLES))


def test_an_example_of_two_environments_runs_as_its_first_line_says():
    command = ["bash", "examples/verl/mix.sh", "--cpu"]
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    for name in ("Calendar", "GuessNumber"):
        assert f"gym/{name}/turns" in ran.stdout
