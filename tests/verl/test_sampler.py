import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tensordict import NonTensorStack, TensorDict
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync
from verl.utils.import_utils import load_extern_object

from gym_adapters.verl import sampler
from gym_adapters.verl.metrics import means


class Queue:
    """Stands where verl has its TransferQueue: keeps prompts with a status, and trajectories."""

    def __init__(self, rows, status="finished"):
        self.tags = {uid: {"is_prompt": True, "status": status, "global_steps": 1} for uid, _ in rows}
        self.rows = {}
        for number, (uid, row) in enumerate(rows):
            self.tags[f"{uid}_{number}_0"] = {"status": "success"}
            self.rows[f"{uid}_{number}_0"] = row

    def kv_list(self):
        return dict.fromkeys(("train", "val"), self.tags)

    def kv_clear(self, partition_id, keys):
        pass

    def kv_batch_get(self, keys, partition_id, select_fields):
        columns = {name: NonTensorStack(*[self.rows[key][name] for key in keys]) for name in select_fields}
        return TensorDict(columns, batch_size=len(keys))


def row(env, **info):
    return {"data_source": f"gym/{env}", "extra_fields": {"reward_extra_info": info, "min_global_steps": 1}}


ROWS = [
    ("a", row("Adder", score=1.0, unscored=0.0, turns=2.0, length=float("nan"))),
    ("a", row("Adder", score=0.0, unscored=1.0, turns=1.0, length=float("nan"))),
    ("b", row("Echo", score=0.5, unscored=0.0, turns=1.0, length=3.0)),
    ("b", {"data_source": "openai/gsm8k", "extra_fields": {}}),
]


@pytest.fixture
def sample(monkeypatch):
    def sampled(mode, partition="train"):
        queue = Queue(ROWS)
        monkeypatch.setattr(sampler, "transfer_queue", queue)
        monkeypatch.setattr("verl.trainer.ppo.v1.replay_buffer.tq", queue)
        made = load_extern_object("pkg://gym_adapters.verl.sampler", "gym_sampler")(
            trainer_mode=mode,
            trainer_config=OmegaConf.create({}),
            max_off_policy_threshold=8,
            max_off_policy_strategy="drop",
            sampler_kwargs=OmegaConf.create({"poll_interval": 0.01}),
            refill_fn=lambda count: None,
        )
        return made, *made.sample(global_steps=1, partition_id=partition, batch_size=2)

    return sampled


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("sync", ReplayBuffer), ("colocate_async", ReplayBufferAsync), ("separate_async", ReplayBufferAsync)],
)
def test_each_step_has_the_metrics_of_each_environment(sample, mode, kind):
    made, batch, metrics = sample(mode)

    assert isinstance(made, kind)
    assert isinstance(made, ReplayBufferAsync) == (kind is ReplayBufferAsync)
    assert len(batch.keys) == 4
    assert made.poll_interval == 0.01
    assert {name: value for name, value in metrics.items() if name.startswith("gym/")} == {
        "gym/Adder/score": 1.0,  # of those that have one
        "gym/Adder/unscored": 0.5,
        "gym/Adder/turns": 1.5,
        "gym/Echo/score": 0.5,
        "gym/Echo/unscored": 0.0,
        "gym/Echo/turns": 1.0,
        "gym/Echo/length": 3.0,
    }


def test_validation_is_left_to_verl(sample):
    _, batch, metrics = sample("sync", partition="val")

    assert batch.keys
    assert metrics == {}


def test_the_metrics_are_read_from_a_real_tensordict_of_verls(sample):
    from verl.utils.tensordict_utils import list_of_dict_to_tensordict

    columns = list_of_dict_to_tensordict([{**row, "prompts": torch.tensor([1, 2])} for _, row in ROWS])
    values = sampler._values(columns["extra_fields"])

    assert [value.get("reward_extra_info") for value in values[:3]][2]["length"] == 3.0
    assert sampler._values(columns["data_source"])[3] == "openai/gsm8k"


def test_a_mean_is_over_the_numbers_that_are_there():
    nan = float("nan")
    infos = [{"a": nan, "score": 0.0, "unscored": 1.0}, {"a": 2.0, "score": 1.0, "unscored": 0.0}]

    assert means(infos) == {"a": 2.0, "score": 1.0, "unscored": 0.5}
    assert means([{"a": nan}]) == {}
    assert np.isfinite(list(means(infos).values())).all()
