"""The client of model servers: connections per event loop, attempts, timeouts and errors."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import random
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakKeyDictionary

import aiohttp

from gym_core.errors import PolicyError
from gym_core.policies.refusals import Failed, refusal, retry_after_s

T = TypeVar("T")

BACKOFF_S = 0.5
"""The most seconds before the second attempt; they double with each attempt, up to 16 times as long."""

_KEPT = 1000  # characters of an answer that an error shows
_chance = random.SystemRandom()  # leaves the trainer's global RNG alone


class Servers:
    """One or more servers of one model, asked for JSON.

    A rollout (an asyncio task) stays on one server to use its prefix cache: the server with the fewest requests in
    flight when the rollout starts. 408, 409, 429, 5xx, connection errors and timeouts are retried, on another server if
    there is one, after the time in Retry-After (at most a minute) or with exponential back-off. Each event loop has its
    own connections, which are closed with it.

    Args:
        urls: Base URLs. A user and password in a URL are sent as basic authentication, and never shown.
        api_key: Bearer token, never shown; None sends none.
        concurrency: Most requests in flight per event loop, over all servers; further ones wait. None for no limit.
        max_retries: Number of attempts after the first one.
        timeout_s: Seconds per attempt, from connecting to the last byte of the answer.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        api_key: str | None = None,
        concurrency: int | None = None,
        max_retries: int = 4,
        timeout_s: float = 600.0,
    ) -> None:
        self._servers = dict(_server(url) for url in urls)
        self._headers = {"Content-Type": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._secret = api_key or ""
        self._concurrency = concurrency
        self._max_retries = max_retries
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._timeout_s = timeout_s
        self._lines: dict[asyncio.AbstractEventLoop, Line] = {}

    @property
    def urls(self) -> list[str]:
        """The base URLs, without credentials."""
        return list(self._servers)

    async def ask(
        self,
        path: str,
        body: Mapping[str, Any] | None,
        read: Callable[[Any], T],
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """The parsed answer to a request, which is retried as often as allowed.

        Args:
            path: Path below the base URL.
            body: JSON to post; with None the request is a GET.
            read: Function that reads the answer's JSON; it raises `Failed` if another attempt is worthwhile.
            headers: Further headers of the request.

        Raises:
            OutOfTokens: The server says that the context is full.
            PolicyError: The request can't be written as JSON, was refused, or failed in every attempt.
        """
        line = await self.line()
        try:
            data = None if body is None else json.dumps(body, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise PolicyError(f"the request can't be written as JSON: {error}") from error
        url, wait_s, last = None, 0.0, None
        for attempt in range(1 + self._max_retries):
            await asyncio.sleep(wait_s)
            async with line.free:
                url = line.choose(unlike=url)
                line.in_flight[url] += 1
                try:
                    return read(await self._send(line.session, url, path, data, headers or {}))
                except Failed as failure:
                    back_off_s = BACKOFF_S * 2 ** min(attempt, 4) * _chance.uniform(0.5, 1.0)
                    wait_s = back_off_s if failure.retry_after_s is None else failure.retry_after_s
                    last = failure
                except (AttributeError, LookupError, TypeError, ValueError) as error:
                    raise PolicyError(f"{url}{path} gave an answer that can't be read: {error!r}") from error
                finally:
                    line.in_flight[url] -= 1
        raise PolicyError(f"{url}{path} failed, the last of {1 + self._max_retries} attempts: {last}") from last

    async def line(self) -> Line:
        """The connections of the running loop, made when first needed."""
        loop = asyncio.get_running_loop()
        if loop not in self._lines:
            for ended in [other for other in self._lines if other.is_closed()]:
                del self._lines[ended]
            sessions = _session(self._timeout, self._headers)
            free = asyncio.Semaphore(self._concurrency or 1 << 30)
            session = await anext(sessions)
            self._lines.setdefault(loop, Line(sessions, session, free, dict.fromkeys(self._servers, 0)))
        return self._lines[loop]

    async def close(self) -> None:
        """Close the connections of the running loop; the next request opens new ones."""
        if line := self._lines.pop(asyncio.get_running_loop(), None):
            await line.sessions.aclose()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lines": {}}  # connections stay in their process

    async def _send(
        self, session: aiohttp.ClientSession, url: str, path: str, data: bytes | None, headers: Mapping[str, str]
    ) -> Any:
        server = self._servers[url]
        method = "GET" if data is None else "POST"
        try:
            async with session.request(
                method,
                url + path + server.query,
                data=None if data is None else io.BytesIO(data),
                headers={**server.headers, **headers},
                proxy=server.proxy,
            ) as response:
                answer = await response.read()
        except TimeoutError as error:
            raise Failed(f"the request timed out after {self._timeout_s:g} seconds") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Failed(self._shown(f"{type(error).__name__}: {error}")) from error
        if response.status == 200:
            return json.loads(answer)
        said = self._shown(f"{response.status} {answer[:_KEPT].decode(errors='replace')}")
        raise refusal(response.status, said, f"{url}{path}", retry_after_s(response.headers))

    def _shown(self, text: str) -> str:
        return text.replace(self._secret, "***") if len(self._secret) > 8 else text


@dataclass(slots=True)
class Line:
    """The state that belongs to one event loop."""

    sessions: AsyncGenerator[aiohttp.ClientSession]
    session: aiohttp.ClientSession
    free: asyncio.Semaphore
    in_flight: dict[str, int]
    homes: WeakKeyDictionary[asyncio.Task[Any], str] = field(default_factory=WeakKeyDictionary)

    def choose(self, *, unlike: str | None) -> str:
        """The server of the running task; another one after that has just failed."""
        task = asyncio.current_task()
        assert task is not None
        home = self.homes.get(task)
        if home is None or home == unlike:
            others = [url for url in self.in_flight if url != unlike]
            home = self.homes[task] = min(others or self.in_flight, key=self.in_flight.__getitem__)
        return home


@dataclass(frozen=True, slots=True)
class _Server:
    query: str
    headers: Mapping[str, str]
    proxy: str | None


async def _session(limit: aiohttp.ClientTimeout, headers: Mapping[str, str]) -> AsyncGenerator[aiohttp.ClientSession]:
    """One session; asyncio closes the generator, and so the session, when it closes the loop."""
    # vLLM closes a connection after 5 idle seconds, perhaps just when the next request is written.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0)
    async with aiohttp.ClientSession(connector=connector, timeout=limit, headers=headers) as session:
        yield session


def _server(url: str) -> tuple[str, _Server]:
    """A base URL without its credentials, and the headers to use with it.

    Raises:
        PolicyError: It is not an HTTP URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PolicyError(f"a base URL must be like 'http://localhost:8000/v1', not {_without_user(parts.geturl())!r}")
    headers = {}
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    host = parts.netloc.rpartition("@")[2]
    proxy = None if proxy_bypass(host) else getproxies().get(parts.scheme)
    query = f"?{parts.query}" if parts.query else ""
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", "")), _Server(query, headers, proxy)


def _without_user(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)
