import json
import logging
import os
from typing import Any

import pytest

from gym_core import Rollout, RolloutError, Task, TaskError, assistant, read_rollouts, tool_call, user, write_rollouts
from gym_core.tokens import TokenTrack

ASKED = {"role": "user", "content": "2+2?"}
SAID = {"role": "assistant", "content": "4"}


def read(path, row: Any) -> Rollout:
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    (rollout,) = read_rollouts(path)
    return rollout


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rollouts.jsonl"


def test_a_line_by_hand_needs_only_reward_and_output(path):
    assert read(path, {"reward": 1, "output": [ASKED, SAID]}) == Rollout(1.0, [user("2+2?"), assistant("4")])


def test_unknown_fields_are_kept(path):
    rollout = read(path, {"reward": 1.0, "output": [ASKED, SAID], "model": "m", "extra": {"run": 3}})
    assert rollout.extra == {"model": "m", "run": 3}
    assert read(path, json.loads(rollout.to_json())) == rollout


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ({"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": "ü"}}}, '{"a": "ü"}'),
        ({"id": "c1", "function": {"name": "add", "arguments": "{}"}}, "{}"),
        ({"id": "c1", "type": None, "function": {"name": "add"}}, "{}"),
    ],
)
def test_calls_are_read_in_the_forms_that_others_write(path, call, arguments):
    rollout = read(path, {"reward": 1.0, "output": [ASKED, {"role": "assistant", "tool_calls": [call]}]})
    assert rollout.output[1] == assistant(None, tool_calls=[tool_call("add", arguments, id="c1")])


def test_a_call_without_an_id_gets_one(path):
    calls = [{"function": {"name": "add", "arguments": "{}"}}] * 2
    rollout = read(path, {"reward": 1.0, "output": [ASKED, {**SAID, "tool_calls": calls}]})
    assert [call["id"] for call in rollout.output[1]["tool_calls"]] == ["call_1_0", "call_1_1"]


def test_null_fields_of_a_message_are_ignored(path):
    said = {**SAID, "tool_calls": None, "reasoning_content": None, "name": None}
    assert read(path, {"reward": 1.0, "output": [ASKED, said]}).output == [user("2+2?"), assistant("4")]


def test_items_of_the_responses_api_become_messages(path):
    output = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "2+2?"}]},
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "function_call", "name": "add", "arguments": "{}", "call_id": "c1"},
        {"type": "function_call_output", "call_id": "c1", "output": "4"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "4"}]},
    ]
    thought = {**assistant(None, tool_calls=[tool_call("add", id="c1")]), "reasoning_content": "hm"}
    answer = {"role": "tool", "tool_call_id": "c1", "content": "4"}
    assert read(path, {"reward": 1.0, "output": output}).output == [user("2+2?"), thought, answer, assistant("4")]


def test_a_line_without_a_reward_has_an_error(path):
    rollout = read(path, {"reward": None, "output": [ASKED]})
    assert (rollout.reward, rollout.error.kind) == (None, "verify")
    assert rollout.error.message == "the line has neither a reward nor an error"
    kept = read(path, {"reward": None, "output": [ASKED], "error": {"kind": "tool", "message": "it broke"}})
    assert kept.error == RolloutError("tool", "it broke")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ([1, 2], "a rollout must be an object with 'reward' and 'output', not [1, 2]"),
        ({"reward": 1.0}, "a rollout must be an object with 'reward' and 'output', not {'reward': 1.0}"),
        ({"reward": "1.0", "output": []}, "'reward' must be a finite number, not '1.0'"),
        ({"reward": 1.0, "output": "4"}, "'output' must be a list, not '4'"),
        ({"reward": 1.0, "output": None}, "'output' must be a list of messages, not None"),
        ({"reward": 1.0, "output": ["4"]}, "message 0 must be an object with a role"),
        (
            {"reward": 1.0, "output": [{"role": "robot", "content": ""}]},
            "message 0 must be an object with a",
        ),
        ({"reward": 1.0, "output": [ASKED, {**SAID, "content": 4}]}, "message 1 must have content that is"),
        (
            {"reward": 1.0, "output": [{**SAID, "content": [{"type": "text"}]}]},
            "message 0 must have content",
        ),
        (
            {"reward": 1.0, "output": [{**SAID, "tool_calls": [{"id": "c"}]}]},
            "message 0 must have tool_calls",
        ),
        (
            {"reward": 1.0, "output": [{**ASKED, "tool_calls": [tool_call("a")]}]},
            "message 0 can't call tools",
        ),
        ({"reward": 1.0, "output": [], "components": {"a": "b"}}, "'components.a' must be a finite number, not 'b'"),
        ({"reward": 1.0, "output": [], "components": 1}, "'components' must be an object, not 1"),
        ({"reward": 1.0, "output": [], "error": "x"}, "'error' must be an object with 'kind' and 'message', not 'x'"),
        ({"reward": 1.0, "output": [], "error": {"kind": "x", "message": ""}}, "'error.kind' must be one of setup"),
        ({"reward": 1.0, "output": [], "stop_reason": "tired"}, "'stop_reason' must be one of done, max_turns"),
        ({"reward": 1.0, "output": [], "task": 3}, "'task' must be an object, not 3"),
        ({"reward": 1.0, "output": [], "task": {"more": 1}}, "unknown field 'more'; the fields are prompt"),
        ({"reward": 1.0, "output": [], "turns": -1}, "'turns' must be a whole number of at least 0, not -1"),
        ({"reward": 1.0, "output": [], "step": True}, "'step' must be a whole number of at least 0, not True"),
        ({"reward": 1.0, "output": [], "tools": {}}, "'tools' must be a list, not {}"),
        (
            {"reward": 1.0, "output": [], "tokens": {"mask": [1]}},
            "'tokens' must have completion_ids, mask and logprobs",
        ),
        ({"reward": 1.0, "output": [], "tokens": {"mask": ["1"]}}, "'tokens' must hold lists of numbers"),
        (
            {"reward": 1.0, "output": [], "tokens": {"ids": []}},
            "'tokens' has no field 'ids'; the fields are prompt_ids",
        ),
    ],
)
def test_a_line_that_is_not_a_rollout_is_named_with_the_reason(path, row, problem):
    write_rollouts(path, [Rollout(1.0, [user("q")])])
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps(row) + "\n")
    rollouts = read_rollouts(path)
    next(rollouts)
    with pytest.raises(TaskError) as raised:
        next(rollouts)
    assert str(raised.value).startswith(f"{path}:3: {problem}")


@pytest.mark.parametrize("line", ["[", "reward,output", '{"reward": NaN, "output": []}', "{'reward': 1, 'output': []}"])
def test_a_line_that_is_not_json_is_named(path, line):
    path.write_text(f"{line}\n")
    with pytest.raises(TaskError, match=r"rollouts.jsonl:1: not JSON \(.*\); expected one rollout per line"):
        list(read_rollouts(path))


def test_a_torn_line_costs_itself_only_wherever_it_was_torn(path, caplog):
    said = [Rollout(1.0, [user(f"ü{number}")], task=Task([], info={"a": {"b": None}})) for number in range(4)]
    write_rollouts(path, said[:2])
    whole = path.read_bytes()
    first_bytes = len(said[0].to_json().encode()) + 1
    for size in range(first_bytes + 1, len(whole) - 1):
        path.write_bytes(whole)
        os.truncate(path, size)
        write_rollouts(path, said[2:])
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert list(read_rollouts(path)) == [said[0], *said[2:]], size
        (record,) = caplog.records
        assert record.getMessage().startswith(f"{path}:2: the line is torn (")


def test_a_line_without_a_line_break_is_not_lost(path):
    said = [Rollout(1.0, [user("a")]), Rollout(0.0, [user("b")])]
    write_rollouts(path, said[:1])
    os.truncate(path, path.stat().st_size - 1)
    write_rollouts(path, said[1:])
    assert list(read_rollouts(path)) == said


def test_a_byte_order_mark_is_not_an_error(path):
    path.write_text("\ufeff\n" + Rollout(1.0, [user("q")]).to_json() + "\n", encoding="utf-8")
    assert list(read_rollouts(path)) == [Rollout(1.0, [user("q")])]


def test_tokens_are_read_back(path):
    track = TokenTrack([1], [2, 3], [1, 0], [-0.5, 0.0], broken="why")
    write_rollouts(path, [Rollout(1.0, [user("q")], tokens=track)])
    assert [rollout.tokens for rollout in read_rollouts(path)] == [track]
