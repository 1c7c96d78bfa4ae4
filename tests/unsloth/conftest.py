"""Unsloth patches the whole process, so these tests run in one of their own: `pytest tests/unsloth`."""

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("unsloth")  # which must come first

from transformers import PrinterCallback
from trl import GRPOTrainer
from unsloth import FastLanguageModel

from gym_adapters.trl.testing import char_tokenizer, script, tiny_model
from gym_adapters.unsloth import grpo_config, gym_dataset, gym_reward, lora_defaults
from gym_adapters.unsloth.imports import ROLLOUTS_SINCE, trl_version
from gym_core import Environment, Task, ToolError, tool, user

SINGLE_TURNS = {"test_config.py", "test_dataset.py", "test_old_trl.py", "test_reward.py"}
"""What is tested with TRL 0.22, beside what says so."""


class Adder(Environment):
    """Add two numbers, with a tool that can."""

    tasks = [Task([user(f"{i}+2")], answer=i + 2, id=f"adder-{i}") for i in range(8)]
    max_turns = 3

    @tool
    def add(self, a: int, b: int) -> int:
        """Add two numbers.

        Args:
            a: The first number.
            b: The second number.
        """
        if a < 0:
            raise ToolError("a must not be negative")
        if a == 7:
            raise RuntimeError("the database is gone")
        return a + b

    def verify(self, rollout):
        return float(rollout.last_reply == str(self.task.answer))


class Echo(Environment):
    """Say the number of the prompt."""

    tasks = [Task([user(str(number))], answer=str(number), id=f"echo-{number}") for number in range(8)]

    def verify(self, rollout):
        return float(rollout.last_reply == self.task.answer)


def pytest_ignore_collect(collection_path):
    if trl_version() < ROLLOUTS_SINCE and collection_path.name.startswith("test_"):
        return collection_path.name not in SINGLE_TURNS
    return None


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/unsloth" in str(item.path):
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture
def adder():
    return Adder


@pytest.fixture
def echo():
    return Echo


@pytest.fixture(scope="session")
def tokenizer():
    tokenizer = char_tokenizer()
    if trl_version() < ROLLOUTS_SINCE:
        tokenizer.response_template = None  # transformers 4 can't read it
    return tokenizer


@pytest.fixture(scope="session")
def tiny_folder(tokenizer, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("tiny"))
    model = tiny_model(tokenizer)
    model.get_input_embeddings().weight.data *= 10  # tied and this small, no LoRA could make one token likely
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def lora_model(tiny_folder):
    """A fresh model with a LoRA, in 32-bit floats, by Unsloth's loader; and its tokenizer."""
    model, tokenizer = FastLanguageModel.from_pretrained(
        tiny_folder, max_seq_length=256, load_in_4bit=False, dtype="float32", use_gradient_checkpointing=False
    )
    options = lora_defaults(8) | {"use_gradient_checkpointing": False}
    return FastLanguageModel.get_peft_model(model, **options), tokenizer


@pytest.fixture
def train(lora_model, tmp_path) -> Callable[..., Any]:
    """Run Unsloth's GRPOTrainer on an environment, the model saying what `reply` says; returns the trainer."""

    def run(env, reply, *, rollouts_dir=None, args=None, **options):
        model, tokenizer = lora_model
        script(model, tokenizer, reply)
        settings = {
            "per_device_train_batch_size": 4,
            "num_generations": 4,
            "max_steps": 1,
            "save_strategy": "no",
            "disable_tqdm": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "shuffle_dataset": False,
            "output_dir": str(tmp_path),
            **(args or {}),
        }
        trainer = GRPOTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=gym_dataset(env, tokenizer=tokenizer, max_prompt_tokens=32),
            reward_funcs=gym_reward(env, rollouts_dir=rollouts_dir),
            args=grpo_config(max_seq_length=128, max_prompt_tokens=32, **settings),
            **options,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return trainer

    return run


@pytest.fixture
def logged():
    """The last logged metrics of a trainer."""
    return lambda trainer: [log for log in trainer.state.log_history if "reward" in log][-1]
