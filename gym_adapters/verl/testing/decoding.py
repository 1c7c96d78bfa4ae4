"""Sampling from a transformers model, several prompts at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

StopReason = Literal["completed", "length", "aborted"]  # in verl's words


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, and how to continue it.

    Attributes:
        prompt_ids: Tokens of the prompt, at least one.
        max_tokens: Most tokens to sample, at least 1.
        temperature: Sampling temperature; 0 takes the likeliest token.
        top_k: Number of likeliest tokens to sample from; -1 means all.
        top_p: Probability that the likeliest tokens to sample from have together.
        stop_ids: Tokens that end a turn; the end token is part of the turn.
    """

    prompt_ids: Sequence[int]
    max_tokens: int
    temperature: float = 1.0
    top_k: int = -1
    top_p: float = 1.0
    stop_ids: frozenset[int] = frozenset()


@dataclass(slots=True)
class Sample:
    """The result of a request.

    Attributes:
        ids: Sampled tokens.
        logprobs: Natural logarithms, under the distribution from which each token was drawn (at temperature 0: under
            that at temperature 1).
        stop_reason: Reason why it ended; "aborted" if decoding was stopped from outside.
    """

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stop_reason: StopReason | None = None

    def add(self, token: int, logprob: float, request: Request) -> None:
        """Take the next token, unless the turn has ended."""
        if self.stop_reason is not None:
            return
        self.ids.append(token)
        self.logprobs.append(logprob)
        if token in request.stop_ids:
            self.stop_reason = "completed"
        elif len(self.ids) >= request.max_tokens:
            self.stop_reason = "length"


@torch.inference_mode()
def decode(
    model: Any,
    requests: Sequence[Request],
    *,
    generator: torch.Generator | None = None,
    aborted: threading.Event | None = None,
) -> list[Sample]:
    """Continue all prompts together, each up to its own end.

    Args:
        model: A causal language model of transformers.
        requests: Requests, in any mix of lengths and temperatures.
        generator: RNG on the model's device.
        aborted: Event that ends all turns as they are; any thread may set it.
    """
    ids, attended = _left_padded([request.prompt_ids for request in requests], model.device)
    positions = (attended.cumsum(1) - 1).clamp(min=0)
    temperatures = torch.tensor([request.temperature for request in requests], device=model.device)
    samples, cache = [Sample() for _ in requests], None
    while not all(sample.stop_reason for sample in samples) and not (aborted and aborted.is_set()):
        output = model(
            input_ids=ids,
            attention_mask=attended,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = output.past_key_values
        tokens, logprobs = _draw(output.logits[:, -1].float(), requests, temperatures, generator=generator)
        for sample, token, logprob, request in zip(samples, tokens.tolist(), logprobs.tolist(), requests, strict=True):
            sample.add(token, logprob, request)
        ids, positions = tokens[:, None], positions[:, -1:] + 1
        attended = torch.cat([attended, attended.new_ones(len(requests), 1)], dim=1)
    for sample in samples:
        sample.stop_reason = sample.stop_reason or "aborted"
    return samples


def _left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens and the mask of those that are not padding, each [prompts, longest prompt]."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    attended = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    return ids, attended


def _draw(
    logits: torch.Tensor,
    requests: Sequence[Request],
    temperatures: torch.Tensor,
    *,
    generator: torch.Generator | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token per row of logits, and its log-probability."""
    greedy = temperatures == 0
    logits = _cut(logits / temperatures.where(~greedy, 1.0)[:, None], requests)
    logprobs = logits.log_softmax(-1)
    drawn = torch.multinomial(logprobs.exp(), 1, generator=generator)[:, 0]
    tokens = drawn.where(~greedy, logits.argmax(-1))
    return tokens, logprobs.gather(1, tokens[:, None])[:, 0]


def _cut(logits: torch.Tensor, requests: Sequence[Request]) -> torch.Tensor:
    """The logits, with those that `top_k` and `top_p` exclude removed."""
    if all(request.top_k < 1 and request.top_p >= 1 for request in requests):
        return logits
    size = logits.shape[-1]
    top_k = torch.tensor([request.top_k if request.top_k > 0 else size for request in requests], device=logits.device)
    top_p = torch.tensor([request.top_p for request in requests], device=logits.device)
    ordered, order = logits.sort(descending=True)
    likelier = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    left_out = (likelier >= top_p[:, None]) | (torch.arange(size, device=logits.device) >= top_k[:, None])
    return logits.masked_fill(left_out.gather(1, order.argsort()), -torch.inf)
