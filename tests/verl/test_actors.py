import json
import os
import shutil
import tempfile
import time
import warnings
from pathlib import Path

import pytest

from tests.verl.environments import Adder, Blocking, Dialog, Echo, Process

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    ray = pytest.importorskip("ray")

HERE = str(Path(__file__).parent)
ACTORS = "+actor_rollout_ref.rollout.custom.gym.actors={count: 1, num_cpus: 0, max_concurrency: 8}"


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.syspath_prepend(HERE)


@pytest.fixture(scope="module")
def cluster():
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    variables = {"PYTHONPATH": os.pathsep.join([HERE, os.getcwd()]), "VERL_PLATFORM": "cpu"}
    variables["VERL_USE_EXTERNAL_MODULES"] = "gym_adapters.verl.testing.registration"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray's own
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            _temp_dir=folder,
            object_store_memory=100_000_000,
            log_to_driver=False,
            runtime_env={"env_vars": variables},
        )
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def call(name):
    return f'<tool_call>\n{{"name": "{name}", "arguments": {{}}}}\n</tool_call><|im_end|>'


def spec(env):
    return f"environments:{env.__name__}"  # in other processes, `tests` is a package of verl's


def answers(tokenizer, row):
    text = tokenizer.decode(row.response_ids)
    return [part.partition("<|im_end|>")[0] for part in text.split("<|im_start|>tool\n")[1:]]


@pytest.mark.slow
def test_environments_of_a_source_share_a_process_of_their_own(play, client, tokenizer, cluster):
    def reply(text):
        return "there<|im_end|>" if "<tool_call>" in text else call("where")

    rows = [
        row for _ in range(2) for row in play(spec(Process), Process.tasks[0], client(reply), n=2, overrides=[ACTORS])
    ]

    pids = {answer for row in rows for answer in answers(tokenizer, row)}
    assert len(pids) == 1
    assert pids != {str(os.getpid())}
    assert [row.reward_score for row in rows] == [1.0] * 4


@pytest.mark.slow
def test_an_environment_in_an_actor_plays_as_it_does_elsewhere(play, client, tokenizer, cluster):
    for env, replies in (
        (Dialog, ["a<|im_end|>", "b<|im_end|>", "c<|im_end|>"]),
        (Adder, ['<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call><|im_end|>', "2<|im_end|>"]),
        (Adder, ['<tool_call>{"name": "add", "arguments": {"a": "x"}}</tool_call><|im_end|>', "2<|im_end|>"]),
        (Echo, ["break<|im_end|>"]),
    ):
        task, rows = env.tasks[-1], []
        for overrides in ([], [ACTORS]):
            said = iter(replies)
            (row,) = play(spec(env), task, client(lambda text, said=said: next(said)), overrides=overrides)
            rows.append(row)
        here, there = rows
        assert (there.response_ids, there.response_mask) == (here.response_ids, here.response_mask)
        infos = [json.dumps(row.extra_fields["reward_extra_info"]) for row in rows]
        assert infos[0] == infos[1]


@pytest.mark.slow
def test_a_process_that_dies_breaks_its_rollout_and_comes_back(play, client, tokenizer, cluster, caplog):
    (row,) = play(spec(Process), Process.tasks[0], client(lambda text: call("die")), overrides=[ACTORS])

    assert set(row.response_mask) == {0}
    assert "the process of the environment died" in caplog.text
    (row,) = play(spec(Process), Process.tasks[0], client(lambda text: "there<|im_end|>"), overrides=[ACTORS])
    assert row.reward_score == 1.0
    assert set(row.response_mask) == {1}


@pytest.mark.slow
def test_an_environment_that_blocks_holds_up_no_other_in_its_actor(play, client, tokenizer, cluster):
    def played(n):
        started_s = time.monotonic()
        rows = play(spec(Blocking), Blocking.tasks[0], client(lambda text: "0<|im_end|>"), n=n, overrides=[ACTORS])
        assert [row.reward_score for row in rows] == [1.0] * n
        return time.monotonic() - started_s

    played(1)
    assert played(8) - played(1) < 8 * 0.3 / 2  # its verifier sleeps for 0.3 s
