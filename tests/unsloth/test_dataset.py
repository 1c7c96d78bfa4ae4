import json
import logging

import pytest

from gym_adapters.unsloth import gym_dataset
from gym_core import ChatTemplate, Environment, EnvironmentSpecError, Task, mix, user


class Long(Environment):
    """Prompts of 1 to 5 characters."""

    tasks = [Task([user("x" * length)]) for length in range(1, 6)]


def test_prompts_that_are_too_long_are_dropped_and_counted(tokenizer, caplog):
    with caplog.at_level(logging.WARNING):
        dataset = gym_dataset(Long, tokenizer=tokenizer, max_prompt_tokens=5)  # <user>xxx<assistant>
    assert [len(row["prompt"][0]["content"]) for row in dataset] == [1, 2, 3]
    assert caplog.messages == ["2 of 5 tasks dropped: their prompts have more than 5 tokens"]


def test_no_warning_if_all_prompts_fit(tokenizer, caplog):
    assert len(gym_dataset(Long, tokenizer=tokenizer, max_prompt_tokens=7, limit=4)) == 4
    assert caplog.messages == []


def test_all_too_long_is_an_error(tokenizer):
    with pytest.raises(EnvironmentSpecError, match="all 5 prompts of 'Long' are too long: the shortest has 3 tokens"):
        gym_dataset(Long, tokenizer=tokenizer, max_prompt_tokens=2)


def test_the_tools_of_each_environment_count(tokenizer, adder, monkeypatch):
    shows_tools = "{%- for tool in tools or [] -%}{{ tool | tojson }}{%- endfor -%}" + tokenizer.chat_template
    monkeypatch.setattr(tokenizer, "chat_template", shows_tools)
    episode_tools = [tool.schema for tool in adder(adder.tasks[0]).tools.values()]
    longest = len(ChatTemplate(tokenizer).prompt(adder.tasks[0].prompt, episode_tools).ids)
    both = mix([Long, adder])
    kept = gym_dataset(both, tokenizer=tokenizer, max_prompt_tokens=longest)
    assert set(kept["environment"]) == {"Long", "Adder"}
    kept = gym_dataset(both, tokenizer=tokenizer, max_prompt_tokens=longest - 1)
    assert set(kept["environment"]) == {"Long"}
    assert [json.loads(row)["prompt"][0]["content"] for row in kept["gym_row"]] == ["x" * n for n in range(1, 6)]
