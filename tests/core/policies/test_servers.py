import asyncio
import json
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from gym_core import PolicyError
from gym_core.policies import refusals, servers
from gym_core.policies.servers import Servers

Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def serving(answers: Callable[[int], Answer], *, drip_s: float = 0.0) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server in threads of its own, which outlives event loops: its URL, and the headers of what it was asked."""
    asked: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            asked.append(dict(self.headers) | {"path": self.path})
            status, headers, body = answers(len(asked))
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            for byte in body if drip_s else [body]:
                self.wfile.write(bytes([byte]) if drip_s else body)
                time.sleep(drip_s)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 256

        def handle_error(self, *_: Any) -> None:
            """Clients that leave are what is tested."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ok(_: int) -> Answer:
    return 200, {}, b'{"value": 7}'


def value(answer: Any) -> int:
    return int(answer["value"])


async def ask(asked: Servers) -> int:
    return await asked.ask("/x", {"a": 1}, value)


def test_one_client_serves_one_event_loop_after_the_other():
    with serving(ok) as (url, asked):
        client = Servers([url], max_retries=0)
        assert [asyncio.run(ask(client)) for _ in range(3)] == [7, 7, 7]
    assert len(asked) == 3
    assert len(client._lines) == 1  # those of ended loops are dropped


def test_one_client_serves_several_event_loops_at_once():
    client, start, found = None, threading.Barrier(8), []

    def work() -> None:
        async def many() -> None:
            found.extend(await asyncio.gather(*(ask(client) for _ in range(20))))

        start.wait()
        asyncio.run(many())

    with serving(ok) as (url, _):
        client = Servers([url])
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [7] * 160


async def test_a_client_that_was_closed_connects_again():
    with serving(ok) as (url, _):
        client = Servers([url])
        assert await ask(client) == 7
        await client.close()
        await client.close()
        assert await ask(client) == 7
        await client.close()


async def test_a_client_travels_without_its_connections():
    with serving(ok) as (url, _):
        client = Servers([url], api_key="secret-key")
        assert await ask(client) == 7
        copy = pickle.loads(pickle.dumps(client))
        assert await ask(copy) == 7
        await client.close()
        await copy.close()


async def test_an_attempt_ends_in_time_though_its_answer_drips():
    with serving(ok, drip_s=0.05) as (url, _):
        client = Servers([url], timeout_s=0.2, max_retries=0)
        started_s = time.monotonic()
        with pytest.raises(PolicyError, match=r"timed out after 0.2 seconds"):
            await ask(client)
        assert time.monotonic() - started_s < 0.4
        await client.close()


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
async def test_temporary_failures_are_retried(status, monkeypatch):
    monkeypatch.setattr(servers, "BACKOFF_S", 0.001)
    with serving(lambda n: ok(n) if n > 2 else (status, {}, b"no")) as (url, asked):
        client = Servers([url], max_retries=2)
        assert await ask(client) == 7
        await client.close()
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("header", "least_s"),
    [
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "0.2"}, 0.2),
        ({"Retry-After": "3600"}, 0.3),
        ({"Retry-After": formatdate(time.time() + 3600, usegmt=True)}, 0.3),
        ({"Retry-After": formatdate(time.time() - 3600, usegmt=True)}, 0.0),
        ({"retry-after-ms": "200"}, 0.2),
    ],
)
async def test_a_server_says_when_to_retry_within_bounds(header, least_s, monkeypatch):
    monkeypatch.setattr(servers, "BACKOFF_S", 50.0)
    monkeypatch.setattr(refusals, "LONGEST_WAIT_S", 0.3)
    with serving(lambda n: ok(n) if n > 1 else (429, header, b"busy")) as (url, _):
        client = Servers([url])
        started_s = time.monotonic()
        assert await ask(client) == 7
        assert least_s <= time.monotonic() - started_s < least_s + 0.25
        await client.close()


@pytest.mark.parametrize("header", ["soon", "-1", "nan", "Wed, 99 Foo 2026"])
async def test_a_retry_after_that_says_nothing_is_left_to_the_back_off(header, monkeypatch):
    monkeypatch.setattr(servers, "BACKOFF_S", 0.001)
    with serving(lambda n: ok(n) if n > 1 else (429, {"Retry-After": header}, b"busy")) as (url, _):
        client = Servers([url])
        assert await asyncio.wait_for(ask(client), 1.0) == 7
        await client.close()


async def test_rollouts_are_spread_over_servers_and_stay_on_one():
    with serving(ok) as (one, asked_one), serving(ok) as (two, asked_two):
        client = Servers([one, two])

        async def three() -> None:
            for _ in range(3):
                await ask(client)

        await asyncio.gather(*(three() for _ in range(10)))
        await client.close()
    assert len(asked_one) + len(asked_two) == 30
    assert len(asked_one) == 15


async def test_a_rollout_moves_from_a_server_that_failed(monkeypatch):
    monkeypatch.setattr(servers, "BACKOFF_S", 0.001)
    with serving(lambda _: (500, {}, b"broken")) as (one, _), serving(ok) as (two, asked_two):
        client = Servers([one, two])
        assert [await ask(client) for _ in range(3)] == [7, 7, 7]
        await client.close()
    assert len(asked_two) == 3


async def test_credentials_of_a_url_are_sent_and_never_shown(monkeypatch):
    monkeypatch.setattr(servers, "BACKOFF_S", 0.001)
    with serving(lambda _: (400, {}, b"no")) as (url, asked):
        client = Servers([url.replace("//", "//me:p%40ss@")])
        with pytest.raises(PolicyError) as refused:
            await ask(client)
        await client.close()
    assert asked[0]["Authorization"] == "Basic bWU6cEBzcw=="
    assert "me:" not in str(refused.value)
    with pytest.raises(PolicyError, match="must be like 'http://localhost:8000/v1', not 'ftp://host/v1'"):
        Servers(["ftp://me:pass@host/v1"])


async def test_a_key_that_a_server_repeats_is_not_shown():
    with serving(lambda _: (401, {}, b"unknown key sk-0123456789")) as (url, asked):
        client = Servers([url], api_key="sk-0123456789")
        with pytest.raises(PolicyError, match=r"401 unknown key \*\*\*"):
            await ask(client)
        await client.close()
    assert asked[0]["Authorization"] == "Bearer sk-0123456789"


async def test_the_query_of_a_base_url_is_kept():
    with serving(ok) as (url, asked):
        client = Servers([url + "/?api-version=1"])
        assert await ask(client) == 7
        await client.close()
    assert asked[0]["path"] == "/v1/x?api-version=1"


async def test_a_proxy_of_the_environment_is_used(monkeypatch):
    with serving(ok) as (proxy, asked):
        monkeypatch.setenv("http_proxy", proxy.removesuffix("/v1"))
        monkeypatch.delenv("no_proxy", raising=False)
        client = Servers(["http://models.invalid/v1"])
        assert await ask(client) == 7
        await client.close()
    assert asked[0]["path"] == "http://models.invalid/v1/x"


async def test_a_cancelled_request_leaves_the_client_as_it_was():
    with serving(ok, drip_s=0.05) as (url, _):
        client = Servers([url], concurrency=1)
        asking = asyncio.ensure_future(ask(client))
        await asyncio.sleep(0.1)
        asking.cancel()
        assert await ask(client) == 7
        assert (await client.line()).in_flight == {url: 0}
        await client.close()


async def test_a_request_that_is_not_json_is_an_error():
    client = Servers(["http://127.0.0.1:9"])
    with pytest.raises(PolicyError, match="can't be written as JSON"):
        await client.ask("/x", {"temperature": float("nan")}, json.dumps)
    await client.close()
