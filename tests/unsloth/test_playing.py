import re

import pytest
import torch

from gym_adapters.trl.testing import script
from gym_adapters.unsloth import rollout_with_model
from gym_core import Environment, EnvironmentSpecError, GymError, Task, text, user


class Guess(Environment):
    """Find the number from 1 to 8 by user turns."""

    tasks = [Task([user("1-8?")], answer=secret) for secret in (3, 5, 7)]
    max_turns = 4

    def respond(self, message):
        guess = int(re.search(r"\d", text(message) + "0")[0])
        return None if guess == self.task.answer else user("higher" if guess < self.task.answer else "lower")

    def verify(self, rollout):
        return float(rollout.last_reply == str(self.task.answer))


def bisect(conversation):
    low, high = 1, 8
    for guess, hint in re.findall(r"<assistant>(\d)<eos><user>(higher|lower)", conversation):
        low, high = (int(guess) + 1, high) if hint == "higher" else (low, int(guess) - 1)
    return f"{(low + high) // 2}<eos>"


def test_user_turns_are_played_token_for_token(lora_model):
    model, tokenizer = lora_model
    script(model, tokenizer, bisect)
    rollouts = rollout_with_model(Guess, model, tokenizer, 5, max_completion_length=64, batch_size=2)
    assert [rollout.reward for rollout in rollouts] == [1.0] * 5
    assert [rollout.task.answer for rollout in rollouts] == [3, 5, 7, 3, 5]  # begins again
    track = rollouts[0].tokens
    assert tokenizer.decode(track.ids) == (
        "<user>1-8?<assistant>4<eos><user>lower<assistant>2<eos><user>higher<assistant>3<eos>"
    )
    sampled = [token for token, sampled in zip(track.completion_ids, track.mask, strict=True) if sampled]
    assert tokenizer.decode(sampled) == "4<eos>2<eos>3<eos>"


def test_a_failure_of_the_environment_has_no_reward_and_stops_nothing(lora_model, adder):
    model, tokenizer = lora_model
    script(model, tokenizer, lambda conversation: f'<call>add {{"a": {conversation[6]}, "b": 2}}</call><eos>')
    rollouts = rollout_with_model(adder, model, tokenizer, 8, max_completion_length=200)
    assert [rollout.reward for rollout in rollouts] == [0.0] * 7 + [None]
    assert rollouts[7].error.message == "RuntimeError: the database is gone"


def test_the_model_itself_is_sampled_and_left_in_its_mode(lora_model, echo):
    model, tokenizer = lora_model
    model.train()
    options = {"max_completion_length": 6, "temperature": 0.0}
    greedy = [rollout_with_model(echo, model, tokenizer, 8, **options) for _ in range(2)]
    assert [rollout.tokens.ids for rollout in greedy[0]] == [rollout.tokens.ids for rollout in greedy[1]]
    assert model.training
    track = greedy[0][3].tokens
    ids = torch.tensor([track.ids])
    with torch.no_grad():
        likeliest = model(input_ids=ids).logits[0, len(track.prompt_ids) - 1 : -1].argmax(-1)
    assert likeliest.tolist() == track.completion_ids


def test_an_environment_that_cannot_be_played_is_refused(lora_model, adder):
    model, tokenizer = lora_model
    with pytest.raises(EnvironmentSpecError, match="'Adder' has no tasks to play"):
        rollout_with_model(adder, model, tokenizer, 1, max_completion_length=8, tasks=[])
    tokenizer.response_template = None
    with pytest.raises(GymError, match="'Adder' can't be played with this tokenizer: the tokenizer has no response_te"):
        rollout_with_model(adder, model, tokenizer, 1, max_completion_length=8)
