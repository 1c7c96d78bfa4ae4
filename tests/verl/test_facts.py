"""What the adapter takes for granted of verl; a release that moves one of them fails here first."""

import inspect
import os
import subprocess
import sys

import pytest
from verl.experimental.agent_loop import agent_loop

from gym_adapters.verl import compat


@pytest.mark.parametrize("name", [name for name in compat.__all__ if not name.startswith("registered_")])
def test_every_name_that_the_adapter_imports_exists(name):
    assert getattr(compat, name) is not None


def test_an_agent_loop_gets_the_arguments_that_ours_reads():
    parameters = inspect.signature(compat.AgentLoopBase.__init__).parameters

    assert {"trainer_config", "server_manager", "tokenizer", "data_config"} <= parameters.keys()
    assert "sampling_params" in inspect.signature(compat.AgentLoopBase.run).parameters


def test_a_row_has_the_fields_that_ours_sets():
    assert {
        *("prompt_ids", "response_ids", "response_mask", "response_logprobs", "routed_experts", "multi_modal_data"),
        *("reward_score", "num_turns", "metrics", "extra_fields"),
    } <= compat.AgentLoopOutput.model_fields.keys()
    assert compat.AgentLoopOutput.model_fields["reward_score"].annotation == (float | None)
    assert agent_loop.AgentLoopMetrics.model_fields.keys() == {
        *("generate_sequences", "tool_calls", "compute_score", "num_preempted"),
    }


def test_a_registered_agent_loop_is_a_target_for_hydra():
    assert agent_loop._agent_loop_registry["gym"] == {"_target_": "gym_adapters.verl.agent_loop.GymAgentLoop"}
    assert agent_loop._agent_loop_registry["single_turn_agent"].keys() == {"_target_"}


def test_the_sessions_of_a_prompt_start_together_in_one_process():
    from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ

    prompts = AgentLoopWorkerTQ.__ray_metadata__.modified_class._run_prompt
    source = inspect.getsource(prompts)

    assert "for i in range(n):" in source
    assert "session_id=i" in source
    assert source.index("asyncio.create_task") < source.index("await _settle_session_tasks")


def test_the_sampler_may_be_anything_that_is_called_with_names():
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer

    source = inspect.getsource(PPOTrainer._build_replay_buffer)

    assert "sampler_cls = load_extern" in source
    assert "sampler_cls(**replay_buffer_kwargs)" in source


def test_custom_estimators_get_the_arguments_that_ours_reads():
    from verl.trainer.ppo.ray_trainer import compute_advantage

    source = inspect.getsource(compute_advantage)

    assert all(f'"{name}"' in source for name in ("token_level_rewards", "response_mask", "config", "index"))


@pytest.mark.slow
def test_the_plug_in_asks_for_no_device_so_that_plug_ins_for_devices_may_come_after_it():
    run("import verl", "assert platform_manager._current_platform is None")


@pytest.mark.slow
def test_the_plug_in_is_loaded_where_one_of_our_modules_is_what_imports_verl_first():
    run("import gym_adapters.verl.agent_loop", "assert 'gym_grpo' in core_algos.ADV_ESTIMATOR_REGISTRY")


def run(*lines):
    first, then = lines
    imports = "from verl.plugin.platform import platform_manager\nfrom verl.trainer.ppo import core_algos"
    registry = (
        "from verl.experimental.agent_loop.agent_loop import _agent_loop_registry\nassert 'gym' in _agent_loop_registry"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VERL_")}
    script = "\n".join(["import warnings; warnings.simplefilter('ignore')", first, imports, then, registry])
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, timeout=200)
