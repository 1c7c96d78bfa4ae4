"""A policy on any OpenAI-compatible server."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from gym_core.errors import OutOfTokens, PolicyError
from gym_core.messages import Message, ToolCall, ToolSchema, assistant, tool_call
from gym_core.policies.policy import Completion
from gym_core.policies.refusals import Failed, refusal
from gym_core.policies.servers import Servers

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_OPENAI = "https://api.openai.com/v1"
_OURS = {"model", "messages", "tools", "stream"}


class ChatPolicy:
    """Asks a chat completions endpoint: OpenAI, vLLM, SGLang, llama.cpp, Ollama, ...

    408, 409, 429, 5xx, connection errors and timeouts are retried, after the time in Retry-After or with exponential
    back-off. If all attempts fail, PolicyError is raised, and the rollout has no reward. A full context raises
    OutOfTokens, which ends the rollout with the stop reason "length". One policy serves any number of rollouts and
    event loops.

    Args:
        model: Name of the model on the server.
        base_url: URL of the server, for example "http://localhost:8000/v1", or of several servers of the same model, of
            which each rollout uses one; None takes OPENAI_BASE_URL, then OpenAI itself.
        api_key: API key; None takes OPENAI_API_KEY, or a placeholder if there is a `base_url`, since local servers need
            none.
        client: `AsyncOpenAI` (or `AsyncAzureOpenAI`, ...) to use instead, with its own URL, key, retries and timeouts;
            the caller closes it.
        max_retries: Number of attempts after the first one.
        timeout_s: Seconds per attempt, from connecting to the last byte of the answer.
        sampling: Further fields of the request, for example `{"temperature": 0.7, "max_tokens": 512}`. As in the openai
            client, the fields in `extra_body` are merged into it, and `extra_headers` are sent as headers.

    Raises:
        PolicyError: There is no key for OpenAI, a URL is invalid, or `sampling` has a field that the policy sets.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | Sequence[str] | None = None,
        api_key: str | None = None,
        client: AsyncOpenAI | None = None,
        max_retries: int = 4,
        timeout_s: float = 600.0,
        sampling: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.sampling = dict(sampling or {})
        if taken := sorted(self.sampling.keys() & _OURS):
            raise PolicyError(f"`sampling` can't have {', '.join(taken)}: the policy sets them for each request")
        if client is not None and (base_url is not None or api_key is not None):
            raise PolicyError("a ChatPolicy takes a `client` or a `base_url` and an `api_key`, not both")
        self._client = client
        self._servers = None if client else _servers(base_url, api_key, max_retries=max_retries, timeout_s=timeout_s)

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema], /) -> Completion:
        request = {"model": self.model, "messages": messages, **({"tools": tools} if tools else {}), **self.sampling}
        if self._servers is None:
            answer = await self._ask_client(request)
        else:
            headers = request.pop("extra_headers", {})
            request |= request.pop("extra_body", None) or {}
            answer = await self._servers.ask("/chat/completions", request, _checked, headers)
        return _completion(answer, turn=len(messages))

    async def close(self) -> None:
        """Close the connections of the running event loop; the next call opens new ones."""
        if self._servers is not None:
            await self._servers.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _ask_client(self, request: dict[str, Any]) -> Any:
        from openai import APIStatusError, OpenAIError

        assert self._client is not None
        try:
            return _checked((await self._client.chat.completions.create(**request)).model_dump())
        except APIStatusError as error:
            refused = refusal(error.status_code, f"{error.code} {error}", "the client's server")
            if isinstance(refused, OutOfTokens):
                raise refused from error
            raise PolicyError(f"the client's server gave no completion: {error}") from error
        except (OpenAIError, Failed) as error:
            raise PolicyError(f"the client's server gave no completion: {error}") from error


def _servers(
    base_url: str | Sequence[str] | None, api_key: str | None, *, max_retries: int, timeout_s: float
) -> Servers:
    if base_url is None:
        base_url = os.environ.get("OPENAI_BASE_URL") or _OPENAI
        api_key = api_key or os.environ.get("OPENAI_API_KEY")
        if api_key is None and base_url == _OPENAI:
            raise PolicyError("OpenAI needs a key: set OPENAI_API_KEY, pass `api_key`, or name a server by `base_url`")
    urls = [base_url] if isinstance(base_url, str) else list(base_url)
    if not urls:
        raise PolicyError("a ChatPolicy needs the URL of at least one server, got an empty list")
    return Servers(urls, api_key=api_key or "none", max_retries=max_retries, timeout_s=timeout_s)


def _checked(answer: Any) -> Any:
    """Check that an answer has a choice, since some servers send errors with status 200."""
    error = answer.get("error")
    if error and not answer.get("choices"):
        status = error.get("code") if isinstance(error, dict) else None
        raise refusal(status if isinstance(status, int) else 400, json.dumps(error)[:1000], "the server")
    if not answer.get("choices"):
        raise PolicyError(f"the server answered without choices: {json.dumps(answer)[:1000]}")
    return answer


def _completion(answer: Any, *, turn: int) -> Completion:
    """Read the completion in a server's answer.

    Args:
        answer: Answer of the server, of which the first choice counts.
        turn: Number of messages before this one, from which ids are made for calls without one.
    """
    try:
        choice = answer["choices"][0]
        written = choice["message"]
        content, thought = _content(written)
        calls = [_call(call, f"call_{turn}_{number}") for number, call in enumerate(written.get("tool_calls") or ())]
    except (AttributeError, LookupError, TypeError) as error:
        raise PolicyError(f"the server's answer is not a chat completion: {json.dumps(answer)[:1000]}") from error
    message = assistant(content, tool_calls=calls)
    if thought:
        message["reasoning_content"] = thought
    if choice.get("finish_reason") == "length":
        return Completion(message, "length")
    return Completion(message, "tool_calls" if calls else "stop")


def _content(written: Mapping[str, Any]) -> tuple[str | None, str]:
    """The content and the reasoning of a message, whose names and forms differ between servers."""
    content = written.get("content") or written.get("refusal")
    thought = written.get("reasoning_content") or written.get("reasoning") or ""  # vllm-project/vllm#27752
    if isinstance(content, list):
        thoughts = [part["thinking"] for part in content if part.get("type") == "thinking"]
        thought = thought or "".join(part["text"] for some in thoughts for part in some)  # Mistral's
        content = "".join(part["text"] for part in content if part.get("type") in ("text", "output_text"))
    if not isinstance(content, str | None) or not isinstance(thought, str):
        raise TypeError("content must be text")
    return written.get("content") if content is None else content, thought


def _call(call: Mapping[str, Any], id: str) -> ToolCall:
    """A call in the OpenAI format; some servers leave out type and id, or send arguments as an object or null."""
    arguments = call["function"].get("arguments")
    if not isinstance(arguments, str):
        arguments = json.dumps({} if arguments is None else arguments, ensure_ascii=False)
    name = call["function"]["name"]
    if not isinstance(name, str):
        raise TypeError("a call must have a name")
    return tool_call(name, arguments, id=str(call.get("id") or id))
