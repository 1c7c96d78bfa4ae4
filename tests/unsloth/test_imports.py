import subprocess
import sys

import pytest

import gym_adapters.unsloth
from gym_core import GymError


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)


def test_every_public_name_is_there_and_sorted():
    assert gym_adapters.unsloth.__all__ == sorted(gym_adapters.unsloth.__all__)
    for name in gym_adapters.unsloth.__all__:
        assert getattr(gym_adapters.unsloth, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'gym_rewards'"):
        _ = gym_adapters.unsloth.gym_rewards


def test_the_package_alone_imports_nothing_that_unsloth_patches():
    code = "import sys, gym_adapters.unsloth; print({'unsloth', 'trl', 'transformers', 'peft'} & sys.modules.keys())"
    assert run(code).stdout.strip() == "set()"


@pytest.mark.parametrize("first", ["transformers", "transformers, unsloth"])
def test_a_package_imported_before_unsloth_is_named(first):
    done = run(f"import {first}\nfrom gym_adapters.unsloth import gym_reward")
    assert done.returncode == 1
    assert "GymError: transformers was imported before unsloth, which patches it: begin with 'import unsloth'" in (
        done.stderr
    )


def test_an_older_trl_is_refused_with_the_release_that_plays_episodes(monkeypatch):
    monkeypatch.setattr("gym_adapters.unsloth.imports.ROLLOUTS_SINCE", (99, 1))
    with pytest.raises(GymError, match=r"gym_rollout needs trl >= 99\.1, found .*; for single turns gym_dataset"):
        _ = gym_adapters.unsloth.gym_rollout
    assert gym_adapters.unsloth.gym_reward
