"""A policy on any OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

from openai import AsyncOpenAI, OpenAIError, omit
from openai.types.chat import ChatCompletion

from gym_core.errors import PolicyError
from gym_core.messages import Message, ToolSchema, assistant, tool_call
from gym_core.policies.policy import Completion


class ChatPolicy:
    """Asks a chat completions endpoint: OpenAI, vLLM, SGLang, llama.cpp, Ollama, ...

    429, 5xx and connection errors are retried with exponential back-off by the openai client; what still fails raises
    PolicyError, which leaves the rollout without a reward.

    Args:
        model: Name of the model on the server.
        base_url: The server's, for example "http://localhost:8000/v1"; None takes OPENAI_BASE_URL, then OpenAI itself.
        api_key: None takes OPENAI_API_KEY, or a placeholder beside a `base_url`, since local servers want none.
        max_retries: Attempts after the first one.
        timeout_s: Seconds for one attempt.
        sampling: More arguments of `chat.completions.create`, for example `{"temperature": 0.7, "max_tokens": 512}`.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        max_retries: int = 4,
        timeout_s: float = 600.0,
        sampling: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.sampling = dict(sampling or {})
        try:
            self._client = AsyncOpenAI(
                base_url=base_url,
                api_key=api_key or ("none" if base_url else None),
                max_retries=max_retries,
                timeout=timeout_s,
            )
        except OpenAIError as error:
            raise PolicyError(f"no OpenAI client could be made: {error}") from error

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema], /) -> Completion:
        try:
            completion = await self._client.chat.completions.create(
                model=self.model,
                messages=cast("Any", messages),
                tools=cast("Any", tools) or omit,
                **self.sampling,
            )
        except OpenAIError as error:
            raise PolicyError(f"{self._client.base_url} gave no completion: {error}") from error
        return _completion(completion)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _completion(completion: ChatCompletion) -> Completion:
    if not completion.choices:
        raise PolicyError(f"the server answered without choices: {completion.model_dump_json()}")
    choice = completion.choices[0]
    calls = [
        tool_call(call.function.name, call.function.arguments, id=call.id)
        for call in choice.message.tool_calls or ()
        if call.type == "function"
    ]
    message = assistant(choice.message.content, tool_calls=calls)
    extra = choice.message.model_extra or {}
    if reasoning := extra.get("reasoning_content") or extra.get("reasoning"):  # vllm-project/vllm#27752
        message["reasoning_content"] = reasoning
    if choice.finish_reason == "length":
        return Completion(message, "length")
    return Completion(message, "tool_calls" if calls else "stop")
