import itertools

import pytest
from omegaconf import OmegaConf
from verl.trainer.ppo.utils import create_rl_dataset, create_rl_sampler

from gym_adapters.verl.rows import gym_row
from gym_core import GymError, Task, user
from tests.verl import environments
from tests.verl.environments import Adder, Echo


class Endless(Echo):
    """Has no end."""

    made = 0

    class Tasks:
        def __iter__(self):
            for i in itertools.count():
                Endless.made += 1
                yield Task([user(f"Say {i}.")], answer=str(i), id=str(i))

    tasks = Tasks()


def counted(size):
    return type("Counted", (Echo,), {"tasks": Echo.tasks[:size]})


environments.Endless = Endless
environments.counted = counted


def made(tokenizer, *names, max_samples=-1, **data):
    paths = [f"gym://tests.verl.environments:{name}" for name in names]
    custom = {"path": "pkg://gym_adapters.verl", "name": "GymDataset"}
    config = OmegaConf.create({"custom_cls": custom, "shuffle": False, **data})
    return create_rl_dataset(paths, config, tokenizer, None, max_samples=max_samples), config


def answers(dataset, indices):
    return [gym_row(dataset[index]["extra_info"]).task.answer for index in indices]


def test_tasks_without_end_are_made_as_they_are_asked_for(tokenizer):
    dataset, config = made(tokenizer, "Endless?skip=3&split=val", max_samples=1_000_000)
    Endless.made = 0

    assert len(dataset) == 1_000_000
    assert answers(dataset, itertools.islice(create_rl_sampler(config, dataset), 3)) == ["3", "4", "5"]
    assert Endless.made < 10
    assert dataset[1]["raw_prompt"] == [user("Say 4.")]
    assert dataset[1]["extra_info"]["split"] == "val"
    assert dataset[1]["extra_info"]["index"] == 1


def test_several_environments_alternate_and_share_their_components(tokenizer):
    dataset, _ = made(tokenizer, "Adder?skip=6", "counted?size=3")

    assert len(dataset) == 5
    assert [dataset[i]["data_source"] for i in range(5)] == [*["gym/Adder", "gym/Counted"] * 2, "gym/Counted"]
    assert answers(dataset, range(5)) == [Adder.tasks[6].answer, "0", Adder.tasks[7].answer, "1", "2"]
    assert gym_row(dataset[0]["extra_info"]).source.components == ["calls", "length", "reward"]


def test_a_resumed_run_goes_on_with_the_same_tasks(tokenizer):
    dataset, _ = made(tokenizer, "Endless", max_samples=10)
    dataset.resume_dataset_state()

    assert answers(dataset, [4]) == ["4"]


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("Endless", {}, "'Endless' does not say how many tasks it has: set data.train_max_samples"),
        ("Echo", {"filter_overlong_prompts": True}, "filter_overlong_prompts can't be true"),
    ],
)
def test_impossible_settings_are_refused(tokenizer, name, data, sentence):
    with pytest.raises(GymError, match=sentence):
        made(tokenizer, name, **data)


def test_the_name_of_a_file_is_refused(tokenizer):
    config = OmegaConf.create({"custom_cls": {"path": "pkg://gym_adapters.verl", "name": "GymDataset"}})
    with pytest.raises(GymError, match="named 'gym://package"):
        create_rl_dataset(["train.jsonl"], config, tokenizer, None)
