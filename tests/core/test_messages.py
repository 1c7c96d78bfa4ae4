from gym_core import assistant, last_reply, system, text, tool_call, user
from gym_core.messages import Message


def test_messages_are_plain_dicts_in_the_openai_format():
    assert system("a") == {"role": "system", "content": "a"}
    assert user("b") == {"role": "user", "content": "b"}
    assert assistant("c") == {"role": "assistant", "content": "c"}


def test_an_assistant_message_carries_its_calls():
    call = tool_call("look", '{"at": "it"}', id="call_7")
    assert call == {"id": "call_7", "type": "function", "function": {"name": "look", "arguments": '{"at": "it"}'}}
    assert assistant(tool_calls=(call,)) == {"role": "assistant", "content": None, "tool_calls": [call]}
    assert "tool_calls" not in assistant("no calls")


def test_the_text_of_a_message_is_its_content_or_its_text_parts():
    parts = [
        {"type": "text", "text": "Look: "},
        {"type": "image_url", "image_url": {"url": "data:"}},
        {"type": "text", "text": "a cat."},
    ]
    message: Message = {"role": "user", "content": parts}
    assert text(message) == "Look: a cat."
    assert text(user("as it is")) == "as it is"
    assert text(assistant()) == ""


def test_the_last_reply_is_that_of_the_last_assistant_message():
    assert last_reply([user("q"), assistant("first"), user("more"), assistant("last"), user("thanks")]) == "last"
    assert last_reply([user("q"), assistant("first"), assistant(tool_calls=[tool_call("f")])]) == ""
    assert last_reply([user("q")]) == ""
    assert last_reply([]) == ""
