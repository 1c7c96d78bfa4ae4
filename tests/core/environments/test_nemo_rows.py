import pytest

from gym_core import Task, TaskError, assistant, system, tool_call, user
from gym_core.environments.nemo_rows import chat_messages, chat_tools


def prompt(*items, **params):
    return chat_messages({"input": list(items), **params})


def call(name, call_id, arguments="{}"):
    return {"type": "function_call", "name": name, "call_id": call_id, "arguments": arguments, "id": "fc_1"}


def output(call_id, text):
    return {"type": "function_call_output", "call_id": call_id, "output": text}


def answer(call_id, text):
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def test_a_string_input_is_one_user_message():
    assert chat_messages({"input": "Hello"}) == [user("Hello")]


def test_instructions_come_first_as_a_system_message():
    assert chat_messages({"input": "Hello", "instructions": "Be brief."}) == [system("Be brief."), user("Hello")]
    assert chat_messages({"input": "Hello", "instructions": None}) == [user("Hello")]


def test_message_items_may_have_a_type_or_none():
    items = [
        {"role": "system", "content": "s"},
        {"type": "message", "role": "user", "content": "u"},
        {"type": None, "role": "assistant", "content": "a", "status": "completed"},
    ]
    assert prompt(*items) == [system("s"), user("u"), assistant("a")]


def test_the_developer_speaks_as_the_system():
    assert prompt({"role": "developer", "content": "d"}) == [system("d")]


def test_text_parts_become_one_text():
    parts = [{"type": "input_text", "text": "a"}, {"type": "text", "text": "b"}]
    said = [{"type": "output_text", "text": "c", "annotations": []}, {"type": "refusal", "refusal": "d"}]
    assert prompt({"role": "user", "content": parts}, {"role": "assistant", "content": said}) == [
        user("ab"),
        assistant("cd"),
    ]


def test_images_become_chat_parts():
    parts = [{"type": "input_text", "text": "What?"}, {"type": "input_image", "image_url": "data:x", "detail": "low"}]
    assert prompt({"role": "user", "content": parts}) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What?"},
                {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}},
            ],
        }
    ]


def test_prefilled_calls_of_a_turn_join_one_assistant_message():
    items = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "Let me look."},
        call("look", "c1", '{"at": 1}'),
        call("look", "c2"),
        output("c1", "one"),
        output("c2", [{"type": "input_text", "text": "two"}]),
        call("look", "c3"),
        output("c3", "three"),
        {"role": "user", "content": "And?"},
    ]
    look = [tool_call("look", '{"at": 1}', id="c1"), tool_call("look", id="c2")]
    assert prompt(*items) == [
        user("q"),
        assistant("Let me look.", tool_calls=look),
        answer("c1", "one"),
        answer("c2", "two"),
        assistant(tool_calls=[tool_call("look", id="c3")]),
        answer("c3", "three"),
        user("And?"),
    ]


def test_reasoning_belongs_to_the_message_after_it():
    items = [
        {"role": "user", "content": "q"},
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "Hm."}]},
        call("look", "c1"),
        output("c1", "one"),
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Aha."}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "One."}]},
    ]
    assert prompt(*items)[1:] == [
        {**assistant(tool_calls=[tool_call("look", id="c1")]), "reasoning_content": "Hm."},
        answer("c1", "one"),
        {**assistant("One."), "reasoning_content": "Aha."},
    ]


def test_reasoning_between_the_calls_of_a_turn_is_joined():
    items = [
        {"type": "reasoning", "summary": [{"text": "First."}]},
        call("look", "c1"),
        {"type": "reasoning", "summary": [{"text": "Second."}, {"text": "Third."}]},
        call("look", "c2"),
    ]
    (turn,) = prompt(*items)
    assert turn["reasoning_content"] == "First.\nSecond.\nThird."
    assert [each["id"] for each in turn["tool_calls"]] == ["c1", "c2"]


def test_flat_tools_become_chat_tools_and_hosted_ones_are_left_out():
    flat = {"type": "function", "name": "look", "description": "", "strict": True, "parameters": {"type": "object"}}
    assert chat_tools({"tools": [flat, {"type": "web_search"}]}) == [
        {
            "type": "function",
            "function": {"name": "look", "description": "", "strict": True, "parameters": {"type": "object"}},
        }
    ]
    assert chat_tools({"tools": None}) == chat_tools({}) == []


def test_nothing_of_a_row_is_lost():
    row = {
        "responses_create_params": {"input": "q", "tools": [], "parallel_tool_calls": False, "temperature": 1.0},
        "expected_answer": "B",
        "options": [{"A": "x"}, {"B": None}],
        "verifier_metadata": {"deep": {"er": [1, 2.5]}},
        "agent_ref": {"type": "responses_api_agents", "name": "mcqa_simple_agent"},
        "_ng_task_index": 0,
        "id": 17,
    }
    task = Task.from_row(row)
    assert task.prompt == [user("q")]
    assert task.info == row
    assert Task.from_row(task.to_row()) == task


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        (None, "'responses_create_params' must be an object with 'input', not None"),
        ({"model": "m"}, "'responses_create_params' must be an object with 'input', not {'model': 'm'}"),
        ({"input": 3}, "'input' must be a string or a list of items, not 3"),
        ({"input": ["hi"]}, "an input item must be an object, not 'hi'"),
        (
            {"input": [{"type": "computer_call"}]},
            "an input item has the type 'computer_call', expected one of "
            "message, function_call, function_call_output, reasoning",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "a content part has the type 'input_audio', expected one of "
            "input_text, output_text, text, refusal, input_image",
        ),
        (
            {"input": [{"role": "user"}]},
            "an input item lacks 'content', or has it in the wrong form: {'role': 'user'}",
        ),
        (
            {"input": [{"type": "function_call", "name": "f"}]},
            "an input item lacks 'arguments', or has it in the wrong form: {'type': 'function_call', 'name': 'f'}",
        ),
        (
            {"input": [{"role": "assistant", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "an assistant message holds text only, not [{'type': 'input_image', 'image_url': 'x'}]",
        ),
        (
            {"input": [{"role": "critic", "content": "x"}]},
            "message 0 must be an object with a role (system, user, assistant, tool), not "
            "{'role': 'critic', 'content': 'x'}, in the prompt",
        ),
    ],
)
def test_a_malformed_request_is_explained(params, sentence):
    with pytest.raises(TaskError) as raised:
        Task.from_row({"responses_create_params": params})
    assert str(raised.value) == sentence


def test_content_in_an_unknown_form_is_explained():
    with pytest.raises(
        TaskError, match=r"an input item lacks .*, or has it in the wrong form: {'role': 'user', 'content': None}"
    ):
        prompt({"role": "user", "content": None})
