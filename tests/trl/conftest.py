"""Real trainers of TRL on a tiny model whose words are scripted."""

import json
import os
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # environment_factory warns that it may change
pytest.importorskip("trl")

from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from gym_adapters.trl import gym_dataset, gym_reward
from gym_adapters.trl.testing import char_tokenizer, script, tiny_model
from gym_core import Environment, Score, Task, ToolError, tool, user


class Adder(Environment):
    """Add two numbers, with a tool that can."""

    tasks = [Task([user(f"{i}+2")], answer=i + 2, id=f"adder-{i}") for i in range(8)]
    max_turns = 3

    @tool
    def add(self, a: int, b: int) -> dict[str, int]:
        """Add two numbers.

        Args:
            a: The first number.
            b: The second number.
        """
        if a < 0:
            raise ToolError("a must not be negative")
        if a == 99:
            raise RuntimeError("the database is gone")
        return {"sum": a + b}

    def verify(self, rollout):
        correct = float(rollout.last_reply == str(self.task.answer))
        return Score(correct, {"correct": correct, "brief": 1.0 if len(rollout.last_reply) < 3 else 0.0})


@pytest.fixture(autouse=True)
def _warnings_of_others(recwarn):
    """Trainers warn of their own deprecations; that is not ours to fail on."""


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/trl" in str(item.path):
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="session")
def tokenizer():
    return char_tokenizer()


@pytest.fixture
def train(tokenizer, tmp_path) -> Callable[..., Any]:
    """Run a trainer of TRL on an environment, the model saying what `reply` says, if any; returns the trainer."""

    def run(env, reply, *, trainer=GRPOTrainer, config=GRPOConfig, steps=1, dataset=None, **options):
        overrides = options.pop("args", {})
        settings = {
            "per_device_train_batch_size": 4,
            "num_generations": 4,
            "max_completion_length": 96,
            "logging_steps": 1,
            **overrides,
        }
        args = config(
            output_dir=str(tmp_path),
            max_steps=steps,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
            shuffle_dataset=False,
            **settings,
        )
        model = tiny_model(tokenizer, hidden_size=32)
        if reply is not None:
            script(model, tokenizer, reply)
        made = trainer(
            model=model,
            args=args,
            train_dataset=gym_dataset(env) if dataset is None else dataset,
            processing_class=tokenizer,
            reward_funcs=options.pop("reward_funcs", gym_reward(env)),
            **options,
        )
        made.remove_callback(PrinterCallback)
        made.train()
        return made

    return run


@pytest.fixture
def adder():
    return Adder


def question(conversation: str) -> tuple[int, int]:
    """The two numbers a prompt of Adder asks for."""
    a, b = re.search(r"<user>(\d+)\+(\d+)", conversation).groups()
    return int(a), int(b)


@pytest.fixture
def use_tool():
    """Calls the tool, then says the sum."""

    def reply(conversation: str) -> str:
        a, b = question(conversation)
        if "<tool>" in conversation:
            return f"{a + b}<eos>"
        return f'<call>add {{"a": {a}, "b": {b}}}</call><eos>'

    return reply


@pytest.fixture
def logged():
    """The last logged metrics of a trainer."""
    return lambda trainer: [log for log in trainer.state.log_history if "reward" in log][-1]


@pytest.fixture
def vllm_server(tokenizer):
    """A server that speaks vLLM's completions protocol and says what `reply` says; returns its url."""
    servers = []

    def start(reply):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.answer({"data": [{"id": "tiny", "max_model_len": 1024}]})

            def do_POST(self):
                ids = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["prompt"]
                said = tokenizer(reply(tokenizer.decode(ids)))["input_ids"]
                logprobs = {"token_logprobs": [-0.5] * len(said), "tokens": [f"token_id:{i}" for i in said]}
                choice = {"token_ids": said, "prompt_token_ids": ids, "logprobs": logprobs, "finish_reason": "stop"}
                self.answer({"choices": [choice]})

            def answer(self, row):
                body = json.dumps(row).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
