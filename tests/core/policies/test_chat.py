import asyncio
import json
from typing import Any

import pytest

from gym_core import (
    ChatPolicy,
    Completion,
    Environment,
    OutOfTokens,
    PolicyError,
    Task,
    assistant,
    rollout,
    tool_call,
    user,
)

DROP = "drop"
"""Instead of an answer: close the connection."""

WAIT = "wait"
"""Instead of an answer: wait until the client gives up."""


class Server:
    """Answers chat completion requests with what it was given, and keeps the requests."""

    def __init__(self, answers: list[tuple[int, Any] | str]) -> None:
        self.answers = answers
        self.requests: list[dict[str, Any]] = []
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Server":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.gather(*self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.current_task())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("POST /v1/chat/completions ")
        length = next(line for line in head.lower().splitlines() if line.startswith("content-length:"))
        body = await reader.readexactly(int(length.split(":")[1]))
        self.requests.append(json.loads(body) | {"key": "authorization: bearer none" in head.lower()})
        answer = self.answers.pop(0)
        if answer == WAIT:
            await reader.read()
        elif answer != DROP:
            status, content = answer
            text = json.dumps(content).encode()
            headers = f"content-type: application/json\r\ncontent-length: {len(text)}\r\nretry-after-ms: 1\r\n"
            writer.write(f"HTTP/1.1 {status} X\r\n{headers}connection: close\r\n\r\n".encode() + text)
            await writer.drain()
        writer.close()
        await writer.wait_closed()


def completion(finish_reason: str = "stop", **message: Any) -> tuple[int, dict[str, Any]]:
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": None, **message}}
    return 200, {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


OK = completion(content="Hello.")
BUSY = (429, {"error": {"message": "slow down"}})
DOWN = (500, {"error": {"message": "out of memory"}})
WRONG = (400, {"error": {"message": "wrong field"}})
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


async def ask(server: Server, *, tools=(), **options) -> Completion:
    async with ChatPolicy("m", base_url=server.url, **options) as policy:
        return await policy([user("Hi")], tools)


async def test_the_conversation_is_sent_and_the_reply_is_read():
    async with Server([OK]) as server:
        assert await ask(server, sampling={"temperature": 0.5}) == Completion(assistant("Hello."))
    assert server.requests == [{"model": "m", "messages": [user("Hi")], "temperature": 0.5, "key": True}]


async def test_tools_are_sent_and_calls_are_read():
    call = tool_call("look", '{"at": "it"', id="c9")
    async with Server([completion("tool_calls", tool_calls=[call])]) as server:
        assert await ask(server, tools=TOOLS) == Completion(assistant(tool_calls=[call]), "tool_calls")
    assert server.requests[0]["tools"] == TOOLS


async def test_calls_count_even_if_the_server_says_it_just_stopped():
    async with Server([completion("stop", tool_calls=[tool_call("look")])]) as server:
        assert (await ask(server, tools=TOOLS)).finish_reason == "tool_calls"


async def test_a_reply_that_was_cut_off_says_so():
    async with Server([completion("length", content="Hel")]) as server:
        assert await ask(server) == Completion(assistant("Hel"), "length")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_reasoning_is_kept_beside_the_content(field):
    async with Server([completion(content="4", **{field: "2 and 2"})]) as server:
        assert (await ask(server)).message == {**assistant("4"), "reasoning_content": "2 and 2"}


async def test_busy_and_broken_servers_are_asked_again():
    async with Server([BUSY, DOWN, OK]) as server:
        assert (await ask(server)).message == assistant("Hello.")
    assert len(server.requests) == 3


async def test_a_dropped_connection_is_tried_again():
    async with Server([DROP, OK]) as server:
        assert (await ask(server, max_retries=1)).message == assistant("Hello.")


async def test_a_wrong_request_is_not_tried_again():
    async with Server([WRONG, OK]) as server:
        with pytest.raises(
            PolicyError, match=r"http://127.0.0.1:\d+/v1/chat/completions refused the request: 400 .*wrong field"
        ):
            await ask(server)
    assert len(server.requests) == 1


async def test_an_answer_without_choices_is_an_error():
    async with Server([(200, OK[1] | {"choices": []})]) as server:
        with pytest.raises(PolicyError, match="the server answered without choices"):
            await ask(server)


async def test_an_answer_that_takes_too_long_is_an_error():
    async with Server([WAIT]) as server:
        with pytest.raises(PolicyError, match="timed out"):
            await ask(server, max_retries=0, timeout_s=0.05)


class Greeting(Environment):
    def verify(self, rollout):
        return rollout.last_reply == "Hello."


@pytest.mark.parametrize(("answers", "sentence"), [([DOWN, BUSY, DOWN], "out of memory"), ([WRONG], "wrong field")])
async def test_a_server_that_never_answers_gives_an_unscored_rollout(answers, sentence):
    async with Server(answers) as server, ChatPolicy("m", base_url=server.url, max_retries=2) as policy:
        played = await rollout(Greeting(Task([user("Hi")])), policy)
    assert played.reward is None
    assert played.error.kind == "policy"
    assert sentence in played.error.message
    assert server.answers == []


async def test_a_rollout_is_played_on_a_server():
    async with Server([OK]) as server, ChatPolicy("m", base_url=server.url) as policy:
        assert (await rollout(Greeting(Task([user("Hi")])), policy)).reward == 1.0


@pytest.mark.parametrize("name", ["OPENAI_BASE_URL", "OPENAI_API_KEY"])
def test_openai_needs_a_key_and_another_server_none(monkeypatch, name):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(PolicyError, match="OpenAI needs a key: set OPENAI_API_KEY"):
        ChatPolicy("m")
    monkeypatch.setenv(name, "http://localhost:8000/v1")
    ChatPolicy("m")


def test_fields_that_the_policy_sets_can_not_be_sampling():
    with pytest.raises(PolicyError, match="`sampling` can't have model, stream: the policy sets them"):
        ChatPolicy("m", base_url="http://localhost/v1", sampling={"stream": True, "model": "n"})


async def test_extra_fields_and_headers_are_sent_as_the_openai_client_sends_them():
    sampling = {"temperature": 0, "extra_body": {"top_k": 5}, "extra_headers": {"Authorization": "Bearer none"}}
    async with Server([OK]) as server:
        await ask(server, api_key="another", sampling=sampling)
    assert server.requests == [{"model": "m", "messages": [user("Hi")], "temperature": 0, "top_k": 5, "key": True}]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ({"id": None}, {"id": "call_1_0"}),
        ({"id": ...}, {"id": "call_1_0"}),
        ({"type": ...}, {}),
        ({"type": None}, {}),
        ({"function": {"name": "look", "arguments": {"at": "ü"}}}, {"arguments": '{"at": "ü"}'}),
        ({"function": {"name": "look", "arguments": None}}, {"arguments": "{}"}),
        ({"function": {"name": "look"}}, {"arguments": "{}"}),
        ({"function": {"name": "look", "arguments": ""}}, {"arguments": ""}),
    ],
)
async def test_calls_are_read_whatever_a_server_leaves_out(call, expected):
    sent = {name: value for name, value in (tool_call("look", id="c9") | call).items() if value is not ...}
    async with Server([completion("tool_calls", tool_calls=[sent])]) as server:
        read = await ask(server, tools=TOOLS)
    call = tool_call("look", expected.get("arguments", "{}"), id=expected.get("id", "c9"))
    assert read == Completion(assistant(tool_calls=[call]), "tool_calls")


async def test_content_in_parts_is_read_as_text_and_thought():
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "2 and 2"}]}, {"type": "text", "text": "4"}]
    async with Server([completion(content=parts)]) as server:
        assert (await ask(server)).message == {**assistant("4"), "reasoning_content": "2 and 2"}


async def test_a_refusal_becomes_the_content():
    async with Server([completion(refusal="I can't help with that.")]) as server:
        assert (await ask(server)).message == assistant("I can't help with that.")


@pytest.mark.parametrize(
    "answer",
    [{"choices": [{}]}, {"choices": [{"message": "hi"}]}, completion(content=4)[1], completion(tool_calls=[{}])[1], []],
)
async def test_an_answer_that_is_not_a_completion_is_an_error(answer):
    async with Server([(200, answer)]) as server:
        with pytest.raises(PolicyError, match=r"is not a chat completion|can't be read"):
            await ask(server)


async def test_an_error_with_status_200_is_treated_by_its_code():
    error = {"error": {"code": 503, "message": "no capacity"}}
    async with Server([(200, error), (200, error)]) as server:
        with pytest.raises(PolicyError, match=r"failed, the last of 2 attempts: .*no capacity"):
            await ask(server, max_retries=1)


FULL_CONTEXTS = [
    (400, {"error": {"code": "context_length_exceeded", "message": "Your input exceeds the limit of this model."}}),
    (400, {"error": {"message": "This model's maximum context length is 4096 tokens. However, you requested 5000."}}),
    (400, {"message": "The decoder prompt (length 5000) is longer than the maximum model length of 4096."}),
    (400, {"message": "The input (5000 tokens) is longer than the model's context length (4096 tokens)."}),
    (400, {"error": {"type": "exceed_context_size_error", "message": "the request exceeds the available size"}}),
    (400, {"error": {"message": "the input length exceeds the context length"}}),
    (400, {"error": {"message": "prompt is too long: 201000 tokens > 200000 maximum"}}),
    (400, {"message": "Input is too long for requested model."}),
    (
        400,
        {"error": {"message": "The input token count (40000) exceeds the maximum number of tokens allowed (32768)."}},
    ),
    (422, {"error": "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 `inputs` tokens"}),
    (413, {"error": {"message": "Please reduce the length of the messages or completion."}}),
    (400, {"error": {"message": "<400> Range of input length should be [1, 30720]"}}),
    (200, {"error": {"code": 400, "message": "This endpoint's maximum context length is 4096 tokens."}}),
]


@pytest.mark.parametrize("answer", FULL_CONTEXTS)
async def test_a_full_context_is_a_truncation_in_the_words_of_every_server(answer):
    async with Server([answer]) as server, ChatPolicy("m", base_url=server.url) as policy:
        played = await rollout(Greeting(Task([user("Hi")])), policy)
    assert (played.stop_reason, len(played.output)) == ("length", 1)


@pytest.mark.parametrize("message", ["unknown field max_token", "temperature is too large", "invalid image: too big"])
async def test_any_other_refusal_is_not_a_truncation(message):
    async with Server([(400, {"error": {"message": message}})]) as server:
        with pytest.raises(PolicyError, match=message):
            await ask(server)


async def test_messages_that_are_not_json_are_an_error():
    async with Server([]) as server, ChatPolicy("m", base_url=server.url) as policy:
        with pytest.raises(PolicyError, match="the request can't be written as JSON: Object of type object is not"):
            await policy([user([{"type": "image", "image": object()}])], [])


async def test_a_client_of_openai_s_is_asked_where_one_is_given():
    openai = pytest.importorskip("openai")
    answers = [OK, FULL_CONTEXTS[0], WRONG, (200, {"choices": []})]
    options = {"api_key": "none", "max_retries": 0}
    async with Server(answers) as server, openai.AsyncOpenAI(base_url=server.url, **options) as client:
        policy = ChatPolicy("m", client=client, sampling={"temperature": 0.5, "extra_body": {"top_k": 5}})
        assert await policy([user("Hi")], []) == Completion(assistant("Hello."))
        with pytest.raises(OutOfTokens):
            await policy([user("Hi")], [])
        with pytest.raises(PolicyError, match=r"gave no completion: .*wrong field"):
            await policy([user("Hi")], TOOLS)
        with pytest.raises(PolicyError, match="answered without choices"):
            await policy([user("Hi")], TOOLS)
        await policy.close()
        assert not client.is_closed()
    asked = {"model": "m", "messages": [user("Hi")], "temperature": 0.5, "top_k": 5, "key": True}
    assert server.requests == [asked, asked, asked | {"tools": TOOLS}, asked | {"tools": TOOLS}]
    with pytest.raises(PolicyError, match="takes a `client` or a `base_url`"):
        ChatPolicy("m", client=client, base_url="http://localhost/v1")
