"""A supervised warm-up, after which a new model knows what the conversations of an environment look like."""

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from examples.calculator import Calculator
from gym_core import EnvironmentFactory, Rollout, ScriptedPolicy, Task, assistant, open_episode, text, tool_call
from gym_core.export.selection import template_messages

STEPS = 600
DEMONSTRATIONS = 2000
GOOD = 0.3
"""Share of the demonstrations that do what pays; the others guess."""

Replies = Callable[[Task, random.Random], list[Any]]
"""A function that writes the assistant's replies in one demonstration of a task."""


def call_or_guess(task: Task, chooser: random.Random) -> list[Any]:
    """Call the calculator, or guess a sum."""
    if chooser.random() > GOOD:
        return [str(chooser.randint(2, 18))]
    expression = json.dumps({"expression": text(task.prompt[-1])})
    return [assistant(tool_calls=[tool_call("calculate", expression)]), str(task.answer)]


def heed_or_guess(task: Task, chooser: random.Random) -> list[Any]:
    """Guess numbers from 1 to 8 until one is right: among those that the answers leave, or among all."""
    left, guesses, heeds = list(range(1, 9)), [0], chooser.random() < GOOD
    while guesses[-1] != task.answer:
        guesses.append(chooser.choice(left))
        if heeds:
            left = [number for number in left if (number > guesses[-1]) == (task.answer > guesses[-1])]
    return [str(guess) for guess in guesses[1:]]


def warm_up(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    tasks: Sequence[Task],
    chooser: random.Random,
    env: EnvironmentFactory = Calculator,
    replies: Replies = call_or_guess,
) -> None:
    """Train a model on what the assistant says in demonstrations of the tasks."""
    demonstrations = asyncio.run(_demonstrations(env, tasks, replies, chooser=chooser))
    rows: Any = tokenizer.apply_chat_template(
        [template_messages(demonstration.output) for demonstration in demonstrations],
        padding=True,
        return_dict=True,
        return_tensors="pt",
        return_assistant_tokens_mask=True,
    )
    ids, attended, said = rows["input_ids"], rows["attention_mask"], rows["assistant_masks"].bool()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=STEPS, pct_start=0.1)
    for _ in range(STEPS):
        batch = chooser.sample(range(DEMONSTRATIONS), 32)
        labels = ids[batch].where(said[batch], -100)
        model(input_ids=ids[batch], attention_mask=attended[batch], labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()


async def _demonstrations(
    env: EnvironmentFactory, tasks: Sequence[Task], replies: Replies, *, chooser: random.Random
) -> list[Rollout]:
    """Play the demonstrations, so that they can't differ from what the environment says."""
    return [
        await open_episode(env, task).run(ScriptedPolicy(replies(task, chooser)))
        for task in chooser.choices(tasks, k=DEMONSTRATIONS)
    ]
