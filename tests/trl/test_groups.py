"""Groups judged together in a real GRPOTrainer, on one rank and over two."""

import json
import os
import subprocess
import sys

import pytest

from gym_adapters.trl import gym_reward
from gym_core import Environment, Task, read_rollouts, user


class Ranked(Environment):
    """Ranks the rollouts of a task."""

    tasks = [Task([user(f"{i}+2")], id=f"ranked-{i}") for i in range(8)]

    def verify(self, rollout):
        return 0.0

    @classmethod
    async def verify_group(cls, rollouts):
        return [float(place) for place, _ in enumerate(rollouts)]


class Absent(Ranked):
    """Its judge is away."""

    @classmethod
    async def verify_group(cls, rollouts):
        raise ConnectionError("the judge is away")


def test_the_rollouts_of_a_task_are_judged_together(train, tmp_path):
    trainer = train(Ranked, lambda _: "4<eos>", reward_funcs=gym_reward(Ranked, rollouts_dir=tmp_path))
    rollouts = list(read_rollouts(tmp_path / "rollouts.jsonl"))
    assert sorted(rollout.reward for rollout in rollouts) == [0.0, 1.0, 2.0, 3.0]
    assert trainer.state.log_history[0]["reward"] == 1.5


def test_a_judge_that_fails_leaves_its_group_unscored(train, tmp_path):
    train(Absent, lambda _: "4<eos>", reward_funcs=gym_reward(Absent, rollouts_dir=tmp_path))
    rollouts = list(read_rollouts(tmp_path / "rollouts.jsonl"))
    assert [rollout.reward for rollout in rollouts] == [None] * 4
    assert {rollout.error.message for rollout in rollouts} == {"verify_group: ConnectionError: the judge is away"}


TWO_RANKS = """
import json, os, sys
sys.path[:0] = json.loads(os.environ["PATHS"])
from trl import GRPOConfig, GRPOTrainer
from gym_adapters.trl import gym_dataset, gym_reward
from gym_adapters.trl.testing import char_tokenizer, tiny_model
from test_groups import Ranked

folder, size = os.environ["FOLDER"], int(os.environ["GROUP"])
tokenizer = char_tokenizer()
args = GRPOConfig(output_dir=folder, per_device_train_batch_size=6, num_generations=size, max_completion_length=8,
                  max_steps=2, logging_steps=1, report_to="none", save_strategy="no", use_cpu=True, bf16=False,
                  disable_tqdm=True)
GRPOTrainer(model=tiny_model(tokenizer), args=args, train_dataset=gym_dataset(Ranked), processing_class=tokenizer,
            reward_funcs=gym_reward(Ranked, rollouts_dir=folder)).train()
"""


@pytest.mark.slow
@pytest.mark.parametrize("size", [3, 4, 12], ids=["on one rank", "some on two", "all on two"])
def test_a_group_may_be_spread_over_ranks(tmp_path, size):
    script = tmp_path / "two_ranks.py"
    script.write_text(TWO_RANKS)
    here = os.path.dirname(os.path.abspath(__file__))
    settings = {
        "PATHS": json.dumps([here, os.path.dirname(os.path.dirname(here))]),
        "FOLDER": str(tmp_path),
        "GROUP": str(size),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    result = subprocess.run(launch, capture_output=True, text=True, timeout=240, env={**os.environ, **settings})
    assert result.returncode == 0, result.stderr[-3000:]
    groups: dict[tuple[int, str], list[float]] = {}
    for rank in (0, 1):
        rollouts = list(read_rollouts(tmp_path / f"rollouts.rank{rank}.jsonl"))
        assert len(rollouts) == 12
        for rollout in rollouts:
            groups.setdefault((rollout.step, rollout.task.id), []).append(rollout.reward)
    assert len(groups) == 24 / size
    assert all(sorted(rewards) == list(map(float, range(size))) for rewards in groups.values())
