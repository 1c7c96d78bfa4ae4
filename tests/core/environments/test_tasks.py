import json
import pickle
from dataclasses import FrozenInstanceError, replace

import pytest

from gym_core import Task, TaskError, assistant, jsonl, system, tool_call, user

NEMO_ROW = {
    "responses_create_params": {
        "input": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "?"}]
    },
    "expected": [1, {"x": None}],
    "agent_ref": {"type": "responses_api_agents", "name": "simple"},
}


@pytest.fixture
def write(tmp_path):
    def write_lines(*lines: str):
        path = tmp_path / "tasks.jsonl"
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    return write_lines


def test_a_row_of_ours_becomes_a_task():
    row = {"prompt": [system("s"), user("q")], "answer": 3, "info": {"a": [1]}, "id": "t1", "environment": "E"}
    assert Task.from_row(row) == Task([system("s"), user("q")], 3, {"a": [1]}, "t1", "E")


def test_a_prompt_may_be_a_string():
    assert Task.from_row({"prompt": "2+2?", "answer": "4"}) == Task([user("2+2?")], "4")


def test_a_row_of_nemo_gym_becomes_a_task_that_keeps_the_whole_row():
    task = Task.from_row(NEMO_ROW)
    assert task.prompt == [system("Be brief."), user("?")]
    assert task.info == NEMO_ROW
    assert task.answer is None


@pytest.mark.parametrize(
    "task",
    [
        Task([]),
        Task([user("é\ud800")], answer={"a": [1, None]}, info={"b": {}}, id="x", environment="E"),
        Task([assistant(tool_calls=[tool_call("f")]), {"role": "tool", "tool_call_id": "call_0", "content": "1"}]),
        Task.from_row(NEMO_ROW),
    ],
    ids=lambda task: task.id,
)
def test_a_task_survives_its_row_and_a_pickle(task):
    assert Task.from_row(task.to_row()) == task
    assert Task.from_row(json.loads(json.dumps(task.to_row()))) == task
    assert pickle.loads(pickle.dumps(task)) == task


def test_ids_are_stable():
    task = Task([user("é\ud800")], answer={"b": 1, "a": 2}, info={"x": [1]})
    assert task.id == Task([user("é\ud800")], answer={"a": 2, "b": 1}, info={"x": [1]}).id == "3f79f1c7ea9e"


def test_different_tasks_have_different_ids():
    tasks = [Task([user("q")]), Task([user("r")]), Task([system("q")]), Task([user("q")], 1), Task([user("q")], "1")]
    tasks += [Task([user("q")], info={"a": 1}), Task([]), *(Task([], number) for number in range(1000))]
    assert len({task.id for task in tasks}) == len(tasks)


def test_an_id_is_kept_when_the_environment_changes():
    task = Task([user("q")])
    assert replace(task, environment="E").id == task.id
    assert Task([user("q")], id="mine").id == "mine"


def test_a_task_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Task([]).answer = 1


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ([1], "a row must be a JSON object, not [1]"),
        ("text", "a row must be a JSON object, not 'text'"),
        ({}, "a row needs 'prompt' or 'responses_create_params', got the fields none"),
        ({"question": "", "a": 1}, "a row needs 'prompt' or 'responses_create_params', got the fields question, a"),
        (
            {"prompt": "", "target": 1},
            "unknown field 'target'; the fields are prompt, answer, info, id, environment; others belong in 'info'",
        ),
        ({"prompt": 3}, "'prompt' must be a string or a list of messages, not 3"),
        (
            {"prompt": ["hi"]},
            "message 0 must be an object with a role (system, user, assistant, tool), not 'hi', in the prompt",
        ),
        (
            {"prompt": [{"role": "human", "content": ""}]},
            "message 0 must be an object with a role (system, user, assistant, tool), not "
            "{'role': 'human', 'content': ''}, in the prompt",
        ),
        (
            {"prompt": [{"role": "user"}]},
            "message 0 must have content that is text, a list of parts or None, not 'none', in the prompt",
        ),
        (
            {"prompt": [{"role": "user", "content": ["hi"]}]},
            "message 0 must have content that is text, a list of parts or None, not ['hi'], in the prompt",
        ),
        (
            {"prompt": [{"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]}]},
            "message 0 must have tool_calls with id, name and arguments as text, not [{'name': 'f'}], in the prompt",
        ),
        ({"prompt": "", "info": []}, "'info' must be a JSON object, not []"),
        ({"prompt": "", "info": None}, "'info' must be a JSON object, not None"),
        ({"prompt": "", "id": 7}, "'id' must be a JSON string, not 7"),
        ({"prompt": "", "environment": {}}, "'environment' must be a JSON string, not {}"),
        (
            {"responses_create_params": {}},
            "'responses_create_params' must be an object with 'input', not {}",
        ),
    ],
)
def test_a_wrong_line_is_named_with_what_was_expected(write, row, sentence):
    path = write('{"prompt": "fine"}', "", json.dumps(row))
    tasks = iter(jsonl(path))
    assert next(tasks).prompt == [user("fine")]
    with pytest.raises(TaskError) as raised:
        next(tasks)
    assert str(raised.value) == f"{path}:3: {sentence}"


def test_a_line_that_is_not_json_is_named(write):
    path = write('{"prompt": "fine"}', "{'prompt': 'python'}")
    with pytest.raises(TaskError) as raised:
        list(jsonl(path))
    assert str(raised.value) == (
        f"{path}:2: not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)); "
        "expected one JSON object per line"
    )


@pytest.mark.parametrize("line", [b'{"prompt": "\xff"}', b'{"prompt": ' + b"[" * 100_000], ids=["latin-1", "deep"])
def test_a_line_that_cannot_be_read_is_named(tmp_path, line):
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(b'{"prompt": "fine"}\n' + line)
    with pytest.raises(TaskError, match=f"{path}:2: not JSON "):
        list(jsonl(path))


def test_empty_lines_windows_line_ends_and_a_byte_order_mark_are_not_errors(tmp_path):
    path = tmp_path / "tasks.jsonl"
    path.write_bytes('\ufeff{"prompt": "é"}\r\n\r\n   \n{"prompt": "\u2028"}\r\n'.encode())
    assert [task.prompt for task in jsonl(path)] == [[user("é")], [user("\u2028")]]


def test_a_file_is_read_anew_each_time(write):
    tasks = jsonl(str(write('{"prompt": "a"}', '{"prompt": "b"}')))
    assert list(tasks) == list(tasks)
    assert len(list(tasks)) == 2
    assert list(pickle.loads(pickle.dumps(tasks))) == list(tasks)


def test_a_missing_file_is_found_when_it_is_read(tmp_path):
    tasks = jsonl(tmp_path / "nowhere.jsonl")
    with pytest.raises(FileNotFoundError):
        list(tasks)
