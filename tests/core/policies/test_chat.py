import asyncio
import json
from typing import Any

import pytest

from gym_core import ChatPolicy, Completion, Environment, PolicyError, Task, assistant, rollout, tool_call, user

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
WRONG = (400, {"error": {"message": "too long"}})
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
        with pytest.raises(PolicyError, match=r"http://127.0.0.1:\d+/v1/ gave no completion: .*too long"):
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


@pytest.mark.parametrize(("answers", "sentence"), [([DOWN, BUSY, DOWN], "out of memory"), ([WRONG], "too long")])
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


def test_a_client_that_cannot_be_made_is_an_error(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(PolicyError, match="no OpenAI client could be made: "):
        ChatPolicy("m")
