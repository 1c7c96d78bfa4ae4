import pytest
from trl import GRPOConfig

from gym_adapters.unsloth import grpo_config, lora_defaults
from gym_core import GymError

LENGTHS = {"max_seq_length": 512, "max_prompt_tokens": 128}


def test_the_completion_gets_the_room_that_prompts_leave(tmp_path):
    args = grpo_config(**LENGTHS, output_dir=str(tmp_path))
    assert isinstance(args, GRPOConfig)
    assert args.max_completion_length == 384
    assert (args.seed, args.beta, args.loss_type, args.learning_rate) == (3407, 0.0, "dapo", 5e-6)
    assert getattr(args, "max_prompt_length", None) is None
    assert grpo_config(**LENGTHS, max_completion_length=64).max_completion_length == 64


def test_a_completion_that_has_no_room_is_refused():
    with pytest.raises(GymError, match="max_completion_length is 385, expected 1 to 384: max_seq_length is 512, of w"):
        grpo_config(**LENGTHS, max_completion_length=385)
    with pytest.raises(GymError, match="max_completion_length is 0, expected 1 to 0"):
        grpo_config(max_seq_length=128, max_prompt_tokens=128)


def test_a_misspelt_setting_is_refused():
    with pytest.raises(GymError, match="GRPOConfig has no setting 'learning_rat'; did you mean 'learning_rate'"):
        grpo_config(**LENGTHS, learning_rat=1e-5)
    with pytest.raises(GymError, match=r"has no setting 'zzz'$"):
        grpo_config(**LENGTHS, zzz=1)


def test_a_step_is_a_whole_number_of_groups():
    with pytest.raises(
        GymError,
        match="per_device_train_batch_size 2 x gradient_accumulation_steps 3 x 1 ranks is 6 rollouts per step, "
        "expected a multiple of num_generations, which is 4",
    ):
        grpo_config(**LENGTHS, per_device_train_batch_size=2, gradient_accumulation_steps=3, num_generations=4)
    args = grpo_config(**LENGTHS, per_device_train_batch_size=2, gradient_accumulation_steps=4, num_generations=4)
    assert args.num_generations == 4


def test_the_lora_has_all_seven_projections_and_twice_the_rank_for_alpha():
    lora = lora_defaults(16)
    assert (lora["r"], lora["lora_alpha"], len(lora["target_modules"])) == (16, 32, 7)
    lora["target_modules"].pop()
    assert len(lora_defaults(16)["target_modules"]) == 7
