"""A rehearsal: two rollouts by verl's own agent loop worker, with an engine that follows a script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from gym_adapters.verl.compat import AgentLoopWorker, DataProto, TokenOutput, collate_fn
from gym_adapters.verl.rows import gym_row
from gym_core import ChatTemplate, EpisodeError, ToolSchema, assistant, tool_call, user
from gym_core.driving import opened_episode

SAMPLED, CONTEXT, PLAIN = "\x1b[32m", "\x1b[2m", "\x1b[0m"


class Worker(AgentLoopWorker):  # type: ignore[misc]
    """verl's worker, with a scripted engine in place of servers."""

    def __init__(self, config: Any) -> None:
        super().__init__(config, _Engine())
        self.llm_client.tokenizer = self.tokenizer

    def play(self, row: dict[str, Any], reply: str) -> Any:
        """Play one rollout in which the policy says the same at every turn, as verl would train on it."""
        self.llm_client.reply = reply
        batch = DataProto.from_single_dict(collate_fn([row]))
        batch.meta_info = {"global_steps": 1, "validate": False}
        return asyncio.run(self.generate_sequences(batch))[0]


class _Engine:
    """Takes the place of verl's client of rollout servers."""

    tokenizer: Any
    reply = ""

    async def generate(self, request_id: str, *, prompt_ids: list[int], sampling_params: Any, **_: Any) -> TokenOutput:
        ids = self.tokenizer.encode(self.reply, add_special_tokens=False)
        ids = [*ids[: sampling_params.get("max_tokens", len(ids) + 1) - 1], self.tokenizer.eos_token_id]
        return TokenOutput(
            token_ids=ids,
            log_probs=[0.0] * len(ids),
            stop_reason="completed",
            num_preempted=0,
            extra_fields={"min_global_steps": 0, "max_global_steps": 0},
        )


def replies(row: dict[str, Any], tokenizer: Any) -> Iterator[tuple[str, str]]:
    """The reply of each rollout, with a description: a text, and a tool call if there is a tool."""
    yield "a text", "I don't know."
    if tools := _tools(row):
        yield f"a call of {tools[0]['function']['name']}", _call(tools[0], tokenizer)
    else:
        yield "another text", "The answer is 1."


def coloured(rollout: Any, tokenizer: Any) -> str:
    """The text of a rollout: tokens that count in the loss in green, those of environment and template dimmed."""
    prompt = rollout.batch["prompts"][rollout.batch["attention_mask"][: rollout.batch["prompts"].shape[-1]].bool()]
    length = int(rollout.batch["attention_mask"].sum()) - len(prompt)
    tokens = zip(rollout.batch["response_mask"].tolist(), rollout.batch["responses"].tolist(), strict=True)
    spans = [(CONTEXT, prompt.tolist())]
    for mask, span in groupby(islice(tokens, length), itemgetter(0)):
        spans.append((SAMPLED if mask else CONTEXT, [token for _, token in span]))
    return "".join(f"{colour}{tokenizer.decode(ids)}{PLAIN}" for colour, ids in spans)


def _tools(row: dict[str, Any]) -> list[ToolSchema]:
    gym = gym_row(row["extra_info"])
    try:
        return opened_episode(gym.env, gym.task).tools
    except EpisodeError:  # the rollout will fail in the same way, and say so
        return []


def _call(tool: ToolSchema, tokenizer: Any) -> str:
    """A tool call as the chat template writes it, up to the end of the turn."""
    parameters = tool["function"].get("parameters", {})
    properties = parameters.get("properties", {})
    arguments = {name: _example(properties[name]) for name in parameters.get("required", ())}
    turn = assistant("", tool_calls=[tool_call(tool["function"]["name"], json.dumps(arguments))])
    template = ChatTemplate(tokenizer)
    asked, answered = (template.prompt(messages, [tool]).text for messages in ([user("x")], [user("x"), turn]))
    return answered.removeprefix(asked).partition(tokenizer.eos_token)[0]


def _example(schema: dict[str, Any]) -> Any:
    examples = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}
    return schema["enum"][0] if schema.get("enum") else examples.get(str(schema.get("type")), "x")
