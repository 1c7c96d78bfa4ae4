import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gym_core import read_rollouts
from gym_core.cli import main

ROOT = Path(__file__).parents[3]


@pytest.fixture
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def server():
    """A chat server that always says the same."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            message = {"role": "assistant", "content": "#### 72"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            body = json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    asked: list[dict] = []
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_address[1]}/v1", asked
    listening.shutdown()
    listening.server_close()
    thread.join()


@pytest.mark.usefixtures("at_root")
@pytest.mark.parametrize(
    "name",
    ["gsm8k:Gsm8k", "meetings:Calendar", "guess_number:GuessNumber", "calculator:Calculator", "addition:Addition"],
)
def test_check_finds_nothing_wrong_with_the_examples(name, capsys):
    assert main(["check", f"examples.{name}"]) == 0
    assert "nothing found" in capsys.readouterr().out


@pytest.mark.usefixtures("at_root")
def test_run_writes_rollouts_and_prints_the_mean_reward(server, tmp_path, capsys):
    url, asked = server
    output = tmp_path / "rollouts.jsonl"
    options = ["--model", "m", "--base-url", url, "--limit", "2", "--samples", "2", "--output", str(output)]
    assert main(["run", "examples.gsm8k:Gsm8k", *options, "--temperature", "0.5"]) == 0
    rewards = sorted(rollout.reward for rollout in read_rollouts(output))
    assert rewards == [0.0, 0.0, 1.0, 1.0]
    assert {request["temperature"] for request in asked} == {0.5}
    assert "mean reward 0.500, 0 unscored, 4 rollouts, written to" in capsys.readouterr().err


@pytest.mark.usefixtures("at_root")
def test_unscored_rollouts_are_written_and_fail_the_command(tmp_path, capsys):
    output = tmp_path / "rollouts.jsonl"
    options = ["--model", "m", "--base-url", "http://127.0.0.1:9/v1", "--limit", "1", "--output", str(output)]
    assert main(["run", "examples.gsm8k:Gsm8k", *options, "--max-retries", "0"]) == 1
    (rollout,) = read_rollouts(output)
    assert (rollout.reward, rollout.error.kind) == (None, "policy")
    told = capsys.readouterr().err
    assert "no reward yet, 1 unscored" in told
    assert "\n  1 with policy: PolicyError: http://127.0.0.1:9/v1/chat/completions failed" in told


@pytest.mark.usefixtures("at_root")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["check", "examples"], "an environment is named 'package.module:name', not 'examples'"),
        (["check", "examples.nope:X"], "there is no module 'examples.nope', named by 'examples.nope:X'"),
        (["check", "examples.gsm8k:Nope"], "module 'examples.gsm8k' has no 'Nope', named by 'examples.gsm8k:Nope'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, sentence, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"gym-core: {sentence}\n"


@pytest.mark.usefixtures("at_root")
def test_a_file_that_cannot_be_read_is_named(capsys):
    assert main(["audit", "examples.gsm8k:Gsm8k", "--rollouts", "nowhere.jsonl"]) == 2
    assert capsys.readouterr().err == "gym-core: 'nowhere.jsonl' can't be used: No such file or directory\n"


@pytest.mark.parametrize("limit", ["0", "-1", "many", "1.5"])
def test_a_count_is_a_whole_number_of_one_or_more(limit, capsys):
    with pytest.raises(SystemExit):
        main(["check", "examples.gsm8k:Gsm8k", "--limit", limit])
    assert f"argument --limit: expected a whole number of 1 or more, not '{limit}'" in capsys.readouterr().err


def test_arguments_of_a_factory_are_json_or_text(tmp_path, monkeypatch, capsys):
    (tmp_path / "made.py").write_text(
        "from gym_core import Environment, Task, user\n"
        "def make(count, word):\n"
        "    class Made(Environment):\n"
        "        tasks = [Task([user(f'{word} {i}')], answer=i) for i in range(count)]\n"
        "        def verify(self, rollout):\n"
        "            return float(rollout.last_reply == str(self.task.answer))\n"
        "    return Made\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["check", "made:make", "--arg", "count=3", "--arg", "word=hi"]) == 0
    assert capsys.readouterr().out.startswith("Made: 3 tasks")
    with pytest.raises(SystemExit):
        main(["check", "made:make", "--arg", "count"])
    assert "expected NAME=JSON, not 'count'" in capsys.readouterr().err
