"""A policy on vLLM servers that works with token ids."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self
from weakref import WeakKeyDictionary

from gym_core.errors import OutOfTokens, PolicyError
from gym_core.policies.refusals import Failed
from gym_core.policies.servers import Servers
from gym_core.policies.tokenized import Sampled

_UNTOUCHED: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Sampling from the model itself; vLLM takes fields that are not sent from the model's generation_config.json."""

_ASKED: dict[str, Any] = {"logprobs": 0, "return_token_ids": True, "skip_special_tokens": False}
"""`logprobs` 0 asks for the sampled token only; special tokens stay in the text so that `stop` can name them."""

_OURS = {"model", "prompt", "max_tokens", "n", "stream", "echo", *_ASKED}
_FINISHED: dict[str, Literal["stop", "length"]] = {"stop": "stop", "length": "length", "repetition": "length"}

_chance = random.SystemRandom()  # leaves the trainer's global RNG alone


class VLLMPolicy:
    """Samples from vLLM servers: token ids in, token ids and their log-probabilities out.

    A rollout (an asyncio task) stays on one server to use its prefix cache. Attempts, timeouts, event loops and full
    contexts are handled as in `ChatPolicy`; requests that a server aborted are retried too. Cancelling the task cancels
    its request on the server.

    Every request has its own random seed, since servers that start with the same seed sample the same.
    Log-probabilities are the model's own, before temperature and top-p, unless the server runs with `--logprobs-mode
    processed_logprobs`.

    Needs vLLM 0.10.2.

    Args:
        urls: URLs of the servers, for example "http://localhost:8000"; all serve the same model.
        model: Name of the model on the servers; None takes the first that they list.
        sampling: Further fields of the request, such as `{"temperature": 0.7}`; vLLM ignores unknown ones. The
            default samples from the whole distribution, whatever the model's generation_config.json says.
        concurrency: Most requests in flight per event loop, over all servers; further ones wait.
        max_retries: Attempts after the first one.
        timeout_s: Seconds per attempt, from connecting to the last byte of the answer.
        api_key: Bearer token; None sends none.

    Example:
        >>> async with VLLMPolicy("http://localhost:8000") as engine:
        ...     template = ChatTemplate(AutoTokenizer.from_pretrained("Qwen/Qwen3-4B"))
        ...     policy = TokenizedPolicy(engine, template, max_tokens=4096)  # one per episode
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
        servers = [url.rstrip("/").removesuffix("/v1") for url in ([urls] if isinstance(urls, str) else urls)]
        self._model = model
        self._sampling = dict(sampling or {})
        if not servers:
            raise PolicyError("a VLLMPolicy needs the URL of at least one server, got an empty list")
        if taken := sorted(self._sampling.keys() & _OURS):
            raise PolicyError(f"`sampling` can't have {', '.join(taken)}: the policy sets them for each request")
        limits = {"concurrency": concurrency, "max_retries": max_retries}
        self._servers = Servers(servers, api_key=api_key, timeout_s=timeout_s, **limits)
        self._served: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Future[tuple[str, int | None]]]
        self._served = WeakKeyDictionary()

    async def __call__(self, prompt_ids: list[int], /, *, max_tokens: int) -> Sampled:
        model, context = await self._find()
        if context is not None:
            max_tokens = min(max_tokens, context - len(prompt_ids))  # vLLM refuses what does not fit
        if max_tokens < 1:
            raise OutOfTokens(f"{len(prompt_ids)} tokens leave no room in the model's context of {context}")
        sampling = {**_UNTOUCHED, "seed": _chance.getrandbits(63), **self._sampling}
        request = {"model": model, "prompt": prompt_ids, "max_tokens": max_tokens, **sampling, **_ASKED}
        return await self._servers.ask("/v1/completions", request, _sampled)

    async def close(self) -> None:
        """Close the connections of the running event loop; the next call opens new ones."""
        await self._servers.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _find(self) -> tuple[str, int | None]:
        """The model's name, and its context in tokens if the server says so; the first caller asks, once."""
        loop = asyncio.get_running_loop()
        if loop not in self._served:
            self._served[loop] = asyncio.ensure_future(self._servers.ask("/v1/models", None, self._listed))
        try:
            return await asyncio.shield(self._served[loop])
        except PolicyError:
            self._served.pop(loop, None)
            raise

    def _listed(self, answer: Any) -> tuple[str, int | None]:
        """The model in a server's list; the first is the base model, and its adapters are listed without a context."""
        contexts = {card["id"]: card.get("max_model_len") for card in answer["data"]}
        first = answer["data"][0]["id"]
        return self._model or first, contexts.get(self._model) or contexts[first]


def _sampled(answer: Any) -> Sampled:
    choice = answer["choices"][0]
    if choice["finish_reason"] not in _FINISHED:
        raise Failed(f"the server ended the request with {choice['finish_reason']!r}")
    ids, prompt_ids = choice.get("token_ids"), choice.get("prompt_token_ids")
    if ids is None or prompt_ids is None:
        raise PolicyError("the server returned no token ids: `return_token_ids` needs vLLM 0.10.2 or newer")
    logprobs = choice["logprobs"]["token_logprobs"]
    if not all(isinstance(id, int) for some in (ids, prompt_ids) for id in some):
        raise TypeError("token ids must be whole numbers")
    if len(logprobs) != len(ids) or not all(isinstance(logprob, float | int) for logprob in logprobs):
        raise TypeError(f"{len(ids)} tokens must have as many log-probabilities, not {logprobs!r:.200}")
    return Sampled(ids, [float(logprob) for logprob in logprobs], _FINISHED[choice["finish_reason"]], prompt_ids)
