"""A policy on vLLM servers, by token ids."""

from __future__ import annotations

import asyncio
import io
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeVar
from weakref import WeakKeyDictionary

from gym_core.errors import MissingDependencyError, OutOfTokens, PolicyError
from gym_core.policies.tokenized import Sampled

try:
    import aiohttp
except ImportError as error:
    raise MissingDependencyError("vllm") from error

T = TypeVar("T")

BACKOFF_S = 0.5
"""Seconds before the second attempt, at most; they double with each one, up to 16 times as long."""

_UNTOUCHED: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Sampling from the model itself; what is not sent, vLLM takes from the model's generation_config.json."""

_ASKED: dict[str, Any] = {"logprobs": 0, "return_token_ids": True, "skip_special_tokens": False}
"""`logprobs` 0 is the sampled token's alone; special tokens stay in the text so that `stop` can name them."""

_OURS = {"model", "prompt", "max_tokens", "n", "stream", "echo", *_ASKED}
_FINISHED: dict[str, Literal["stop", "length"]] = {"stop": "stop", "length": "length", "repetition": "length"}

_chance = random.SystemRandom()  # leaves the trainer's global generator alone


class VLLMPolicy:
    """Samples from vLLM servers: token ids in, token ids and their log-probabilities out.

    A rollout (an asyncio task) stays on one server, for the sake of its prefix cache: the one that has the fewest
    requests in flight when it starts. 408, 429, 5xx, connection errors, time-outs and aborted requests are retried with
    exponential back-off, on another server where there is one; what still fails raises PolicyError. A full context
    raises OutOfTokens. A task that is cancelled takes its request off the server.

    Every request has its own random seed, since servers that start with the same one sample alike. Log-probabilities
    are the model's own, before temperature and top-p, unless the server runs with `--logprobs-mode processed_logprobs`.

    Needs vLLM 0.10.2. Use it in one event loop at a time.

    Args:
        urls: The servers', for example "http://localhost:8000"; all serve the same model.
        model: Its name on the servers; None takes the first that they list.
        sampling: More fields of the request, such as `{"temperature": 0.7}`; vLLM ignores those it does not know. The
            default samples from the whole distribution, whatever the model's generation_config.json says.
        concurrency: Requests in flight, over all servers; more wait.
        max_retries: Attempts after the first one.
        timeout_s: Seconds for one attempt.
        api_key: Sent as a bearer token.

    Example:
        >>> async with VLLMPolicy("http://localhost:8000") as engine:
        ...     template = ChatTemplate(AutoTokenizer.from_pretrained("Qwen/Qwen3-4B"))
        ...     policy = TokenizedPolicy(engine, template, max_tokens=4096)  # one an episode
        ...     played = await rollout(Calendar(task), policy)
        ...     played.tokens.completion_ids, played.tokens.mask, played.tokens.logprobs
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        model: str | None = None,
        sampling: Mapping[str, Any] | None = None,
        concurrency: int = 256,
        max_retries: int = 4,
        timeout_s: float = 600.0,
        api_key: str | None = None,
    ) -> None:
        self._urls = [url.rstrip("/").removesuffix("/v1") for url in ([urls] if isinstance(urls, str) else urls)]
        self._model = model
        self._sampling = dict(sampling or {})
        self._concurrency = concurrency
        self._max_retries = max_retries
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        authorization = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._headers = {"Content-Type": "application/json", **authorization}
        self._line: _Line | None = None
        if not self._urls:
            raise PolicyError("a VLLMPolicy needs the url of at least one server")
        if taken := sorted(self._sampling.keys() & _OURS):
            raise PolicyError(f"`sampling` can't have {', '.join(taken)}: the policy sets them for each request")

    async def __call__(self, prompt_ids: list[int], /, *, max_tokens: int) -> Sampled:
        line = await self._connect()
        model, context = await self._served(line)
        if context is not None:
            max_tokens = min(max_tokens, context - len(prompt_ids))  # vLLM refuses rather than cuts off
        if max_tokens < 1:
            raise OutOfTokens(f"{len(prompt_ids)} tokens leave no room in the model's context of {context}")
        sampling = {**_UNTOUCHED, "seed": _chance.getrandbits(63), **self._sampling}
        request = {"model": model, "prompt": prompt_ids, "max_tokens": max_tokens, **sampling, **_ASKED}
        return await self._ask(line, "/v1/completions", json.dumps(request).encode(), _sampled)

    async def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        line, self._line = self._line, None
        if line is not None:
            await line.session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _connect(self) -> _Line:
        """The connections of the running loop, made when first needed; those of a loop before it are dropped."""
        loop = asyncio.get_running_loop()
        if self._line is not None and self._line.loop is loop:
            return self._line
        # vLLM closes a connection after 5 idle seconds, perhaps just when the next request is written.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0)
        session = aiohttp.ClientSession(connector=connector, timeout=self._timeout, headers=self._headers)
        line = _Line(loop, session, asyncio.Semaphore(self._concurrency), dict.fromkeys(self._urls, 0))
        before, self._line = self._line, line
        if before is not None:
            await before.session.close()
        return line

    async def _served(self, line: _Line) -> tuple[str, int | None]:
        """The model's name, and its context in tokens where the server says; asked once, by whoever comes first."""
        if line.served is None:
            line.served = asyncio.ensure_future(self._ask(line, "/v1/models", None, self._find))
        try:
            return await asyncio.shield(line.served)
        except PolicyError:
            line.served = None
            raise

    def _find(self, answer: Any) -> tuple[str, int | None]:
        """The model in a server's list, whose first is the base model; its adapters are listed without a context."""
        contexts = {card["id"]: card.get("max_model_len") for card in answer["data"]}
        first = answer["data"][0]["id"]
        return self._model or first, contexts.get(self._model) or contexts[first]

    async def _ask(self, line: _Line, path: str, body: bytes | None, read: Callable[[Any], T]) -> T:
        """What an answer reads as, after as many attempts as it takes."""
        url, wait_s, last = None, 0.0, None
        for attempt in range(1 + self._max_retries):
            await asyncio.sleep(wait_s)
            async with line.free:
                url = line.choose(unlike=url)
                line.in_flight[url] += 1
                try:
                    return read(await _send(line.session, url + path, body))
                except _Failed as failure:
                    wait_s = max(failure.retry_after_s, BACKOFF_S * 2 ** min(attempt, 4) * _chance.uniform(0.5, 1.0))
                    last = failure
                except (LookupError, TypeError, ValueError) as error:
                    raise PolicyError(f"{url}{path} gave an answer that is not vLLM's: {error!r}") from error
                finally:
                    line.in_flight[url] -= 1
        raise PolicyError(f"{url}{path} failed, the last of {1 + self._max_retries} attempts: {last}") from last


@dataclass(slots=True)
class _Line:
    """What belongs to one event loop."""

    loop: asyncio.AbstractEventLoop
    session: aiohttp.ClientSession
    free: asyncio.Semaphore
    in_flight: dict[str, int]
    homes: WeakKeyDictionary[asyncio.Task[Any], str] = field(default_factory=WeakKeyDictionary)
    served: asyncio.Future[tuple[str, int | None]] | None = None

    def choose(self, *, unlike: str | None) -> str:
        """The server of the running task, which moves when that one has just failed."""
        task = asyncio.current_task()
        assert task is not None
        home = self.homes.get(task)
        if home is None or home == unlike:
            others = [url for url in self.in_flight if url != unlike]
            home = self.homes[task] = min(others or self.in_flight, key=self.in_flight.__getitem__)
        return home


class _Failed(Exception):
    """An attempt that is worth another one."""

    def __init__(self, why: str, retry_after: str = "") -> None:
        super().__init__(why)
        self.retry_after_s = float(retry_after) if retry_after.isdecimal() else 0.0  # a date is left to the back-off


async def _send(session: aiohttp.ClientSession, url: str, body: bytes | None) -> Any:
    """The JSON a server answers with; a request without a body is a GET."""
    method, data = ("GET", None) if body is None else ("POST", io.BytesIO(body))
    try:
        async with session.request(method, url, data=data) as response:
            answer = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _Failed(f"{type(error).__name__}: {error}") from error
    if response.status == 200:
        return json.loads(answer)
    said = f"{response.status} {answer[:1000].decode(errors='replace')}"
    if response.status in (408, 429) or response.status >= 500:
        raise _Failed(said, response.headers.get("Retry-After", ""))
    if "maximum context length" in said:
        raise OutOfTokens(said)
    raise PolicyError(f"{url} refused the request: {said}")


def _sampled(answer: Any) -> Sampled:
    choice = answer["choices"][0]
    if choice["finish_reason"] not in _FINISHED:
        raise _Failed(f"the server ended the request with {choice['finish_reason']!r}")
    if choice.get("token_ids") is None:
        raise PolicyError("the server returned no token ids: `return_token_ids` takes vLLM 0.10.2 or newer")
    logprobs = choice["logprobs"]["token_logprobs"]
    return Sampled(choice["token_ids"], logprobs, _FINISHED[choice["finish_reason"]], choice["prompt_token_ids"])
