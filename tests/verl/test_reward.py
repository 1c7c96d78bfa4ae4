import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from verl import DataProto

from gym_adapters.verl import compute_score
from gym_adapters.verl.rows import Source, verl_row
from gym_core import EpisodeError, GymError
from tests.verl.environments import Adder, Dialog, Echo


def extra_info(env, number=0, components=()):
    source = Source(f"tests.verl.environments:{env.__name__}", {}, components)
    return verl_row(source, env.tasks[number], index=0, split="train")["extra_info"]


def test_a_reply_is_scored_with_the_metrics_of_a_rollout():
    score = compute_score("gym/Echo", "1", '"1"', extra_info(Echo, 1, ["length", "calls"]))

    assert (score["score"], score["acc"], score["length"], score["turns"]) == (1.0, 1.0, 1.0, 1.0)
    assert "calls" in score
    assert "reward" not in score
    assert compute_score("gym/Echo", "2", '"1"', extra_info(Echo, 1))["score"] == 0.0


def test_a_verifier_that_broke_gives_no_score():
    with pytest.raises(EpisodeError, match="verify: RuntimeError: the verifier broke"):
        compute_score("gym/Echo", "break", '"1"', extra_info(Echo, 1))


@pytest.mark.parametrize("env", [Adder, Dialog])
def test_an_environment_of_several_turns_is_refused(env):
    with pytest.raises(GymError, match="default_agent_loop=gym"):
        compute_score(f"gym/{env.name}", "1", "1", extra_info(env))


def test_it_may_be_called_from_many_threads_and_from_a_running_loop():
    replies = [str(i % 3) for i in range(200)]
    with ThreadPoolExecutor(16) as threads:
        scores = list(threads.map(lambda reply: compute_score("", reply, "", extra_info(Echo, 1))["score"], replies))

    assert scores == [float(reply == "1") for reply in replies]

    async def called():
        return compute_score("", "1", "", extra_info(Echo, 1))["score"]

    assert asyncio.run(called()) == 1.0


@pytest.mark.parametrize("manager", ["naive", "dapo"])
def test_verls_reward_worker_loads_it_and_passes_on_its_metrics(config, tokenizer, manager):
    from verl.experimental.reward_loop import RewardLoopWorker

    composed = config(
        "reward.custom_reward_function.path=pkg://gym_adapters.verl.reward",
        f"reward.reward_manager.name={manager}",
        "+reward.reward_kwargs.max_resp_len=100" if manager == "dapo" else "reward.num_workers=1",
    )
    cls = RewardLoopWorker.__ray_metadata__.modified_class if hasattr(RewardLoopWorker, "__ray_metadata__") else None
    row = verl_row(Source("tests.verl.environments:Echo", {}, ["length"]), Echo.tasks[1], index=0, split="train")
    ids = torch.tensor([tokenizer.encode("1<|im_end|>")])
    data = DataProto.from_dict(
        tensors={
            "prompts": ids[:, :1],
            "responses": ids,
            "attention_mask": torch.ones(1, 1 + ids.shape[1], dtype=torch.int64),
        },
        non_tensors={
            name: np.array([row[name]], dtype=object) for name in ("data_source", "reward_model", "extra_info")
        },
    )

    async def scored():
        worker = (cls or RewardLoopWorker)(composed)
        return await worker.compute_score(data)

    result = asyncio.run(scored())

    assert result["reward_score"] == 1.0
    assert result["reward_extra_info"]["length"] == 1.0
