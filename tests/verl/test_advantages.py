import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from verl import DataProto
from verl.trainer.ppo.core_algos import get_adv_estimator_fn
from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories


def advantages(estimator, rewards, *, groups, valid=None, **algorithm):
    """The advantage of each row's token, by verl's own functions as its trainer calls them."""
    count = len(rewards)
    mask = torch.tensor([[1, 1, 0]] * count)
    scores = torch.zeros(count, 3)
    scores[:, 1] = torch.tensor(rewards)
    for row, counts in enumerate(valid or [True] * count):
        mask[row] *= counts
    tensors = {"response_mask": mask, "token_level_rewards": scores}
    data = DataProto.from_dict(tensors=tensors, non_tensors={"uid": np.array(groups, dtype=object)})
    config = OmegaConf.create({"norm_adv_by_std_in_grpo": True, **algorithm})
    result = compute_advantage_for_multi_trajectories(
        data,
        batch_keys=[f"{group}_{row}_0" for row, group in enumerate(groups)],
        adv_estimator=estimator,
        norm_adv_by_std_in_grpo=config.norm_adv_by_std_in_grpo,
        config=config,
    )
    spread = result.batch["advantages"]
    assert torch.equal(spread, spread[:, :1] * mask)
    return spread[:, 0].tolist()


def test_it_is_registered_by_importing_verl():
    assert get_adv_estimator_fn("gym_grpo").__module__ == "gym_adapters.verl.advantages"


@pytest.mark.parametrize("normalized", [True, False])
def test_where_all_rollouts_are_valid_it_is_verls_grpo(normalized):
    case = ([1.0, 0.0, 0.5, 1.0, 0.0, 0.0], {"groups": list("aaabbb"), "norm_adv_by_std_in_grpo": normalized})

    assert advantages("gym_grpo", case[0], **case[1]) == pytest.approx(advantages("grpo", case[0], **case[1]))


@pytest.mark.parametrize("normalized", [True, False])
def test_a_failed_rollout_is_left_out_of_the_baseline(normalized):
    options = {"norm_adv_by_std_in_grpo": normalized}
    without = advantages("grpo", [1.0, 0.0, 0.5], groups=list("aaa"), **options)

    for made_up in (0.0, 0.5, 100.0):
        found = advantages(
            "gym_grpo", [1.0, made_up, 0.0, 0.5], groups=list("aaaa"), valid=[True, False, True, True], **options
        )
        assert found == pytest.approx([without[0], 0.0, *without[1:]])


def test_a_group_with_one_valid_rollout_has_no_advantage():
    assert advantages("gym_grpo", [1.0, 0.5, 0.3], groups=list("aab"), valid=[True, False, True]) == [0.0] * 3
    assert advantages("grpo", [0.3], groups=["b"]) != [0.0]  # verl gives a group of one its reward


def test_a_group_without_valid_rollouts_has_no_advantage():
    assert advantages("gym_grpo", [0.0, 0.0], groups=list("aa"), valid=[False, False]) == [0.0, 0.0]


def test_with_verls_grpo_the_mean_of_the_group_keeps_the_baseline_and_narrows_the_spread():
    without = advantages("grpo", [1.0, 0.0, 0.5], groups=list("aaa"))
    with_mean = advantages("grpo", [1.0, 0.5, 0.0, 0.5], groups=list("aaaa"), valid=[True, False, True, True])
    with_zero = advantages("grpo", [1.0, 0.0, 0.0, 0.5], groups=list("aaaa"), valid=[True, False, True, True])

    factor = (3 / 2) ** 0.5  # the harm that remains: the square root of (rows - 1) / (valid rows - 1)
    assert with_mean == pytest.approx([without[0] * factor, 0.0, *[value * factor for value in without[1:]]], rel=1e-4)
    assert with_zero[3] > 0.2  # a made-up 0 would have praised an average rollout
    unscaled = {"norm_adv_by_std_in_grpo": False}
    assert advantages("grpo", [1.0, 0.5, 0.0], groups=list("aaa"), valid=[True, False, True], **unscaled) == [
        *(0.5, 0.0, -0.5)
    ]


def test_with_verls_grpo_one_valid_rollout_among_failed_ones_has_no_advantage():
    assert advantages("grpo", [0.7, 0.7, 0.7], groups=list("aaa"), valid=[True, False, False]) == [0.0] * 3
