"""The cost of asking a chat model: CPU time per request of `ChatPolicy` and of the openai client, side by side.

The server is a process of its own that answers at once; 128 requests are in flight. One JSON line:

    python -m benchmarks.chat
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

from openai import AsyncOpenAI

from gym_core import ChatPolicy, user

CONCURRENCY, REQUESTS, ROUNDS = 128, 2_000, 5
MESSAGES = [user("What is 1+2+3?"), user("Answer with a number. " * 20)]
ANSWER = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "6 " * 50}}],
        "usage": {"prompt_tokens": 90, "completion_tokens": 50, "total_tokens": 140},
    }
).encode()
RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER


class _Answers(asyncio.Protocol):
    """Answers each request without reading more of it than its length."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self._data = transport, b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
            self._data = b""
            self._transport.write(RESPONSE)  # type: ignore[attr-defined]


def serve(ready: Connection) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(_Answers, "127.0.0.1", 0, backlog=512)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


async def cpu_ms(ask: Callable[[], Awaitable[object]], requests: int) -> float:
    """CPU milliseconds of this process per request."""
    left = iter(range(requests))

    async def client() -> None:
        for _ in left:
            await ask()

    started_s = time.process_time()
    await asyncio.gather(*(client() for _ in range(CONCURRENCY)))
    return 1000 * (time.process_time() - started_s) / requests


async def measure(url: str) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {"gym_core": [], "openai": []}
    async with ChatPolicy("m", base_url=url) as policy, AsyncOpenAI(base_url=url, api_key="none") as client:

        async def ours() -> object:
            return await policy(MESSAGES, [])

        async def theirs() -> object:
            return await client.chat.completions.create(model="m", messages=MESSAGES)  # type: ignore[arg-type]

        for name, ask in (("gym_core", ours), ("openai", theirs)) * (1 + ROUNDS):
            figures[name].append(await cpu_ms(ask, REQUESTS))
    return {name: sorted(values[1:]) for name, values in figures.items()}  # the first round connects


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    figures = asyncio.run(measure(f"http://127.0.0.1:{ours.recv()}/v1"))
    server.terminate()
    medians = {name: statistics.median(values) for name, values in figures.items()}
    result = {
        "benchmark": "chat",
        "concurrency": CONCURRENCY,
        **{
            f"{name}_cpu_ms_per_request": {
                "median": round(medians[name], 3),
                "range": [round(values[0], 3), round(values[-1], 3)],
            }
            for name, values in figures.items()
        },
        "times_cheaper": round(medians["openai"] / medians["gym_core"], 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
