"""The kit in one process: the rollout server, the platform, the config; the runs are in test_main_ppo.py."""

import asyncio
import inspect
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from verl.plugin.platform import PlatformRegistry, get_platform
from verl.utils.flops_counter import get_device_flops
from verl.workers.config import RolloutConfig
from verl.workers.rollout.base import get_rollout_class
from verl.workers.rollout.replica import get_rollout_replica_class

import gym_adapters
from gym_adapters.verl import plugin
from gym_adapters.verl.testing import TrainingError, char_tokenizer, main_ppo, save_model
from gym_adapters.verl.testing.cpu_platform import CpuPlatform
from gym_adapters.verl.testing.decoding import Request, decode
from gym_adapters.verl.testing.registration import ROLLOUT_NAME
from gym_adapters.verl.testing.replica import TransformersReplica, TransformersRollout, _buckets
from gym_adapters.verl.testing.server import TransformersServer
from gym_adapters.verl.testing.training import KIT, _variables

pytestmark = pytest.mark.filterwarnings("ignore")

TOKENIZER = char_tokenizer()
END = TOKENIZER.eos_token_id
PROMPTS = [TOKENIZER.encode(text) for text in ["3+4", "What is the capital of France?", "x", "<|im_start|>user\nHi"]]


@pytest.fixture(scope="module")
def model(lively_model):
    return lively_model(seed=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, model, TOKENIZER)
    return folder


@pytest.fixture
def server(folder):
    config = RolloutConfig(name="transformers", prompt_length=64, response_length=64, dtype="float32")
    return TransformersServer(config, {"_target_": "verl.workers.config.HFModelConfig", "path": str(folder)})


def ask(server, prompt, **sampling):
    return server.generate(prompt, {"temperature": 0, "logprobs": True, **sampling}, "request")


async def test_requests_at_the_same_time_are_decoded_together(server, model, monkeypatch):
    sizes = []

    def watched(model, requests, **options):
        sizes.append(len(requests))
        return decode(model, requests, **options)

    monkeypatch.setattr("gym_adapters.verl.testing.server.decode", watched)
    outputs = await asyncio.gather(*(ask(server, prompt, max_tokens=5) for prompt in PROMPTS))
    assert sizes == [len(PROMPTS)]
    for prompt, output in zip(PROMPTS, outputs, strict=True):
        (alone,) = decode(model, [Request(prompt, 5, temperature=0)])
        assert output.token_ids == alone.ids
        assert output.log_probs == pytest.approx(alone.logprobs, abs=1e-5)
        assert output.stop_reason == "length"


async def test_a_turn_has_the_room_that_is_left(server):
    for limits in {}, {"max_tokens": 1000}:
        assert len((await ask(server, PROMPTS[0], **limits)).token_ids) == 128 - len(PROMPTS[0])


async def test_a_turn_ends_at_the_models_end_token_or_one_that_is_asked_for(server):
    stop = TOKENIZER.encode("x")[0]
    asked = [ask(server, PROMPTS[0], temperature=5.0, stop_token_ids=[stop]) for _ in range(40)]
    outputs = await asyncio.gather(*asked)
    completed = [output.token_ids for output in outputs if output.stop_reason == "completed"]
    assert {ids[-1] for ids in completed} == {END, stop}
    assert not any({END, stop} & set(output.token_ids[:-1]) for output in outputs)


async def test_updated_weights_are_used_and_their_step_is_reported(server, lively_model):
    other = lively_model(seed=7)
    before = await ask(server, PROMPTS[1], max_tokens=8)
    await server.update_weights(dict(other.named_parameters()))
    await server.set_global_steps(3)
    after = await ask(server, PROMPTS[1], max_tokens=8)
    (expected,) = decode(other, [Request(PROMPTS[1], 8, temperature=0)])
    assert before.token_ids != after.token_ids == expected.ids
    assert (before.extra_fields["global_steps"], after.extra_fields["global_steps"]) == (None, 3)
    with pytest.raises(ValueError, match=r"no weights named \['nonsense'\]"):
        await server.update_weights({"nonsense": torch.zeros(1)})


async def test_an_abort_ends_turns_as_they_are_until_generation_resumes(server):
    server._config.max_model_len = 5000
    running = asyncio.create_task(ask(server, PROMPTS[0], max_tokens=4000))
    await asyncio.sleep(0.3)
    await server.abort_all_requests()
    output = await running
    assert output.stop_reason == "aborted"
    assert 0 < len(output.token_ids) == len(output.log_probs) < 4000
    later = asyncio.create_task(ask(server, PROMPTS[0], max_tokens=2))
    await asyncio.sleep(0.1)
    assert not later.done()
    await server.resume_generation()
    assert len((await later).token_ids) == 2


async def test_unsupported_requests_are_refused_in_a_sentence(server):
    with pytest.raises(ValueError, match=r"repetition_penalty but 1, not 1\.2"):
        await ask(server, PROMPTS[0], repetition_penalty=1.2)
    with pytest.raises(ValueError, match="a prompt of 200 tokens leaves no room for one more in 128"):
        await ask(server, [5] * 200)
    with pytest.raises(ValueError, match="text only"):
        await server.generate(PROMPTS[0], {}, "request", image_data=["picture"])


async def test_a_failing_model_fails_those_who_asked_and_no_one_else(server):
    failed = await asyncio.gather(ask(server, [10**6]), ask(server, PROMPTS[0]), return_exceptions=True)
    assert [type(error) for error in failed] == [IndexError, IndexError]
    assert len((await ask(server, PROMPTS[0], max_tokens=3)).token_ids) == 3


def test_the_platform_is_taken_on_request_only():
    assert PlatformRegistry.get("cpu") is CpuPlatform
    assert not CpuPlatform().is_platform_available(use_smi_check=True)
    assert isinstance(get_platform(), CpuPlatform)  # by conftest.py
    assert get_device_flops() == pytest.approx(0.448)  # of a "CPU", says verl


def test_verl_finds_the_server_by_its_name():
    assert get_rollout_replica_class(ROLLOUT_NAME) is TransformersReplica
    assert get_rollout_class(ROLLOUT_NAME) is TransformersRollout


async def test_a_server_spread_over_devices_is_refused():
    config = {"_target_": "verl.workers.config.RolloutConfig", "name": "transformers", "tensor_model_parallel_size": 2}
    with pytest.raises(ValueError, match="one device, not 2"):
        await TransformersReplica(0, config, {}).launch_servers()


async def test_weights_travel_in_buckets():
    weights = {str(i): torch.ones(256) for i in range(5)}  # 1 KiB each
    buckets = [bucket async for bucket in _buckets(iter(weights.items()), 2048)]
    assert [list(bucket) for bucket in buckets] == [["0", "1"], ["2", "3"], ["4"]]


def test_the_kit_is_a_config_of_verl():
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides=[KIT, "+kit=cpu", "actor_rollout_ref.rollout.n=4"])
    assert config.trainer.device == "cpu"
    assert config.ray_kwargs.ray_init.num_gpus == 1
    rollout = config.actor_rollout_ref.rollout
    assert (rollout.name, rollout.dtype, rollout.n) == ("transformers", "float32", 4)


def test_no_process_loads_the_kit_unasked():
    project = tomllib.loads((Path(gym_adapters.__file__).parents[1] / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["verl.plugins"] == {"gym_adapters": "gym_adapters.verl.plugin"}
    assert "gym_adapters.verl.testing" not in inspect.getsource(plugin)


@pytest.mark.parametrize(
    ("kit", "found", "expected"),
    [
        ("cpu", "", "gym_adapters.verl.testing.registration"),
        ("transformers", "mine,theirs", "mine,theirs,gym_adapters.verl.testing.registration"),
        ("cpu", "gym_adapters.verl.testing.registration", "gym_adapters.verl.testing.registration"),
        (None, "mine", "mine"),
    ],
)
def test_a_run_asks_for_the_kit_beside_what_the_user_asks_for(monkeypatch, kit, found, expected):
    monkeypatch.setenv("VERL_USE_EXTERNAL_MODULES", found)
    assert _variables(kit)["VERL_USE_EXTERNAL_MODULES"] == expected


@pytest.mark.slow
def test_on_gpus_the_server_is_found_by_a_variable_of_verls():
    program = (
        "import verl; from verl.workers.rollout.replica import get_rollout_replica_class as find;"
        "from verl.plugin.platform import PlatformRegistry as platforms;"
        f"print(find({ROLLOUT_NAME!r}).__name__, platforms.get('cpu'))"
    )
    variables = {name: value for name, value in os.environ.items() if name != "VERL_PLATFORM"}
    variables["VERL_USE_EXTERNAL_MODULES"] = "gym_adapters.verl.testing.registration"
    ran = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[-2] == "TransformersReplica None"


@pytest.mark.slow
def test_a_failed_run_reports_the_end_of_its_output(tmp_path):
    with pytest.raises(TrainingError, match=r"(?s)ended with 1.*Key 'nonsense' is not in struct"):
        main_ppo(["trainer.nonsense=1"], output_dir=tmp_path)
    with pytest.raises(TrainingError, match=r"no end after 0\.1 s"):
        main_ppo([], output_dir=tmp_path, timeout_s=0.1)
