"""Generation with verl's rollout servers, turn by turn."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from gym_adapters.verl.compat import OpenAIFunctionToolSchema
from gym_core import (
    ChatTemplate,
    Completion,
    Message,
    PolicyError,
    Sampled,
    TokenizedPolicy,
    ToolCall,
    ToolSchema,
    assistant,
    tool_call,
)


class ServerPolicy:
    """The engine of one rollout: the client that verl gives an agent loop, which picks a server and stays with it.

    Args:
        generate: The client's `generate`; it is awaited on the event loop where this policy is made, wherever the
            episode is played.
        template: Chat template of the model.
        sampling_params: Sampling parameters of verl, for training or validation.
        max_prompt_tokens: Most tokens of the opening. verl would cut off the start of a longer one, and lose the system
            prompt.

    Attributes:
        seconds: Time spent generating.
        preempted: Number of preemptions by the engine; -1 if it does not report them.
        steps: First and last trainer step of the weights that sampled the rollout; None if no server reported it.
        routed_experts: Routed experts of the last turn, for router replay; None if the engine gives none.
    """

    def __init__(
        self,
        generate: Callable[..., Awaitable[Any]],
        template: ChatTemplate,
        sampling_params: Mapping[str, Any],
        *,
        max_prompt_tokens: int,
    ) -> None:
        self.seconds = 0.0
        self.preempted = -1
        self.steps: tuple[int, int] | None = None
        self.routed_experts: Any = None
        self._generate = generate
        self._template = template
        self._sampling_params = dict(sampling_params)
        self._max_prompt_tokens = max_prompt_tokens
        self._loop = asyncio.get_running_loop()
        self._request_id = uuid4().hex  # the same for all turns, so that they use the same prefix cache
        self._asked = False

    async def __call__(self, prompt_ids: list[int], /, *, max_tokens: int) -> Sampled:
        """Sample one turn.

        Raises:
            PolicyError: The opening is too long, or the server aborted the request.
        """
        if not self._asked and len(prompt_ids) > self._max_prompt_tokens:
            raise PolicyError(
                f"the opening has {len(prompt_ids)} tokens, expected at most the {self._max_prompt_tokens} of "
                "data.max_prompt_length"
            )
        self._asked = True
        started_s = time.monotonic()
        output = await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(self._ask(prompt_ids, max_tokens), self._loop)
        )
        self.seconds += time.monotonic() - started_s
        self._note(output)
        if output.stop_reason in ("aborted", "abort"):
            raise PolicyError("the server aborted the request")
        ids = list(output.token_ids)
        logprobs = list(output.log_probs) if output.log_probs else None
        return Sampled(ids, logprobs, "stop" if self._template.ends_turn(ids) else "length")

    async def _ask(self, prompt_ids: list[int], max_tokens: int) -> Any:
        params = {**self._sampling_params, "max_tokens": max_tokens}  # a new one: servers pop keys from it
        return await self._generate(request_id=self._request_id, prompt_ids=prompt_ids, sampling_params=params)

    def _note(self, output: Any) -> None:
        first, last = (output.extra_fields.get(f"{end}_global_steps") for end in ("min", "max"))
        if first is not None and last is not None:
            before = self.steps or (first, last)
            self.steps = min(before[0], first), max(before[1], last)
        if output.num_preempted is not None and output.num_preempted >= 0:
            self.preempted = max(self.preempted, 0) + output.num_preempted
        self.routed_experts = output.routed_experts


class ToolCallPolicy:
    """A TokenizedPolicy whose tool calls are found by one of verl's parsers.

    Args:
        policy: Policy that writes the turns as text.
        template: Chat template of the model.
        parser: Parser that `ToolParser.get_tool_parser` returns for `multi_turn.format`.
    """

    def __init__(self, policy: TokenizedPolicy, template: ChatTemplate, parser: Any) -> None:
        self._policy = policy
        self._template = template
        self._parser = parser

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema], /) -> Completion:
        """Write the next assistant message; raises the same as TokenizedPolicy."""
        track = self._policy.track
        start = len(track.completion_ids)
        completion = await self._policy(messages, tools)
        if not tools:
            return completion
        ids = [
            token for token, sampled in zip(track.completion_ids[start:], track.mask[start:], strict=True) if sampled
        ]
        message = await self._parse(ids[:-1] if self._template.ends_turn(ids) else ids, tools, turn=len(messages))
        if completion.finish_reason == "length":
            return replace(completion, message=message)
        return replace(completion, message=message, finish_reason="tool_calls" if message.get("tool_calls") else "stop")

    async def _parse(self, ids: list[int], tools: Sequence[ToolSchema], *, turn: int) -> Message:
        try:
            content, found = await self._parser.extract_tool_calls(ids, [_verl_schema(tool) for tool in tools])
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):  # a model can write anything
            content, found = self._parser.tokenizer.decode(ids), []
        calls = [tool_call(call.name, call.arguments, id=f"call_{turn}_{i}") for i, call in enumerate(found)]
        return assistant(content, tool_calls=calls or self._malformed(ids, turn))

    def _malformed(self, ids: list[int], turn: int) -> list[ToolCall]:
        """Text that looks like a call but could not be parsed, as one call, so that it is answered."""
        opening = getattr(self._parser, "tool_call_start_token", None)  # some formats have none
        _, opened, raw = self._parser.tokenizer.decode(ids).partition(opening or "\0")
        named = re.search(r'"name"\s*:\s*"([^"]+)"', raw)
        return [tool_call(named[1] if named else "", raw, id=f"call_{turn}_0")] if opened else []


def _verl_schema(tool: ToolSchema) -> OpenAIFunctionToolSchema:
    """The part of a schema that verl's parsers use to tell numbers from strings; verl's class rejects many others."""
    function = tool["function"]
    properties = function.get("parameters", {}).get("properties", {})
    parameters = {"type": "object", "properties": {name: {"type": _type(p)} for name, p in properties.items()}}
    return OpenAIFunctionToolSchema(
        type="function", function={"name": function["name"], "description": "", "parameters": parameters}
    )


def _type(schema: Mapping[str, Any]) -> str:
    options = [schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())]
    kinds = [kind for option in options if isinstance(kind := option.get("type"), str) and kind != "null"]
    return kinds[0] if kinds else "string"
