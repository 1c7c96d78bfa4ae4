import json

import pytest

from gym_adapters.trl import gym_dataset
from gym_adapters.trl.dataset import task_of
from gym_core import Environment, EnvironmentSpecError, GymError, Task, assistant, mix, tool_call, user


def endless():
    number = 0
    while True:
        yield Task([user(str(number))], answer=number)
        number += 1


class Counting(Environment):
    """Endless tasks."""

    @property
    def tasks(self):
        raise AssertionError("an instance's tasks are not read")

    def verify(self, rollout):
        return 1.0


Counting.tasks = endless()


def test_a_row_carries_the_whole_task(adder):
    dataset = gym_dataset(adder)
    assert dataset.column_names == ["prompt", "gym_row", "environment"]
    assert [task_of(row) for row in dataset["gym_row"]] == adder.tasks
    assert dataset[0]["prompt"] == [{"role": "user", "content": "0+2", "gym_row": dataset[0]["gym_row"]}]
    assert set(dataset["environment"]) == {"Adder"}


def test_answers_of_different_shapes_are_kept_apart(adder):
    answers = [1, "one", [1, [2]], {"a": None}, {"b": 1.5}, None, True]
    dataset = gym_dataset(adder, tasks=[Task([user("?")], answer=answer, info={"x": answer}) for answer in answers])
    assert [task_of(row).answer for row in dataset["gym_row"]] == answers


def test_messages_keep_their_own_keys_only(adder):
    call = tool_call("add", '{"a": 1, "b": 2}', id="c1")
    prompt = [user("1+2"), assistant(tool_calls=[call]), {"role": "tool", "tool_call_id": "c1", "content": "3"}]
    parts = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    dataset = gym_dataset(adder, tasks=[Task(prompt), Task(parts)])
    shown = dataset[0]["prompt"]
    assert [*map(set, shown)] == [{"role", "content", "gym_row"}, {"role", "content", "tool_calls"}, {*prompt[2]}]
    assert shown[1]["tool_calls"][0]["function"]["arguments"] == {"a": 1, "b": 2}
    assert dataset[1]["prompt"][0]["content"] == parts[0]["content"]
    assert task_of(dataset[0]["gym_row"]).prompt == prompt


def test_a_limit_is_for_endless_tasks():
    assert len(gym_dataset(Counting, limit=5)) == 5


def test_each_row_of_a_mix_names_its_environment(adder):
    class Other(adder):
        """Another one."""

    for several in ([adder, Other], mix([adder, Other])):
        dataset = gym_dataset(several)
        assert [dataset["environment"].count(name) for name in ("Adder", "Other")] == [8, 8]
        assert json.loads(dataset[15]["gym_row"])["environment"] == "Other"


def test_bad_input_is_one_sentence(adder):
    with pytest.raises(EnvironmentSpecError, match="environment 'Adder' has no tasks to train on"):
        gym_dataset(adder, tasks=[])
    with pytest.raises(EnvironmentSpecError, match="expected an environment or a list of them, not 'Adder'"):
        gym_dataset("Adder")
    with pytest.raises(GymError, match="the dataset has no 'gym_row' column: build it with gym_dataset"):
        task_of(None)
