import json

import pytest

from gym_adapters.verl.__main__ import main
from gym_adapters.verl.checks import advice, problems

ENVIRONMENTS = "tests.verl.environments"


@pytest.fixture
def doctor(tmp_path, model_path, capsys):
    """Examines a run of an environment, as the command does; its status and what it printed."""

    def examined(name, *overrides):
        spec = f"{ENVIRONMENTS}:{name}"
        assert main(["data", spec, "--train", "1", "--val", "1", "--out", str(tmp_path)]) == 0
        assert main(["overrides", spec, "--data", str(tmp_path)]) == 0
        printed = [line for line in capsys.readouterr().out.splitlines() if "=" in line]
        model = [f"actor_rollout_ref.model.path={model_path}", "actor_rollout_ref.rollout.name=vllm"]
        status = main(["doctor", *printed, *model, *overrides])
        return status, capsys.readouterr()

    return examined


def test_a_run_with_tools_is_played_and_its_mask_shown(doctor):
    status, output = doctor("Adder")

    assert status == 0
    assert "data.train_files: 1 tasks, the first of gym/Adder" in output.out
    assert '\x1b[32m<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>\x1b[0m' in output.out
    assert '\x1b[2m\n<|im_start|>tool\n{"error": "b is missing"}<|im_end|>' in output.out
    assert "tool_errors 3" in output.out
    assert "no problem found" in output.out
    assert "better:" not in output.out


def test_a_run_of_single_turns_is_scored_by_the_reward_function(doctor):
    status, output = doctor("Echo")

    assert status == 0
    assert "reward 0 (score 0" in output.out
    assert "length 13" in output.out  # I don't know.


def test_a_rollout_that_cannot_be_scored_is_a_problem(doctor):
    status, output = doctor("Unmade")

    assert status == 1
    assert "has no reward" in output.out


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["custom_reward_function.path=x.py"], "use reward.custom_reward_function.path"),
        (["reward_model.reward_manager=dapo"], "use reward.reward_manager.name"),
        (["reward_model.model.path=x"], "use reward.reward_model.model_path"),
        (["sandbox_fusion.url=x"], "use reward.sandbox_fusion.url"),
        (["+actor_rollout_ref.rollout.agent.agent_loop_manager_class=a.B"], "verl 0.8 and earlier fail in 0.9"),
        (["actor_rollout_ref.rollout.multi_turn.tool_config_path=x"], "the tools are those of the environment"),
        (["actor_rollout_ref.rollout.multi_turn.max_user_turns=3"], "set max_turns of the environment"),
    ],
)
def test_an_entry_that_verl_ignores_is_a_problem(config, overrides, sentence):
    (problem,) = problems(config(*overrides))

    assert sentence in problem


def test_the_suggested_entries_exist(config):
    composed = config()
    for entry in (
        "custom_reward_function.path",
        "reward_manager.name",
        "reward_model.model_path",
        "num_workers",
    ):
        found = composed.reward
        for name in entry.split("."):
            assert name in found
            found = found[name]


def test_a_run_without_our_entries_gets_advice(config):
    sentences = " ".join(advice(config("algorithm.adv_estimator=grpo", "trainer.use_v1=false")))

    assert "gym_grpo leaves them out" in sentences
    assert "no gym/* metrics in training" in sentences
    assert "deprecated trainer" in sentences


def test_filters_that_verl_does_not_pass_on_are_reported(config):
    sampler = "trainer.v1.sampler.custom_sampler={path: pkg://gym_adapters.verl.sampler, name: gym_sampler}"
    grpo = "algorithm.adv_estimator=gym_grpo"

    assert "does not pass algorithm.filter_groups to custom samplers" in " ".join(
        advice(config(sampler, grpo, "algorithm.filter_groups.enable=true"))
    )
    assert not list(advice(config(sampler, grpo)))


def test_an_entry_that_does_not_exist_is_refused_in_one_sentence(capsys):
    assert main(["doctor", "actor_rollout_ref.rollout.multi_turn.interaction_config_path=x"]) == 2

    sentence = capsys.readouterr().err
    assert "main_ppo would refuse these entries: Could not override" in sentence
    assert "an environment's `respond` is its user turns" in sentence


def test_an_environment_of_several_turns_without_our_loop_is_a_problem(doctor):
    loop = "actor_rollout_ref.rollout.agent.default_agent_loop=single_turn_agent"
    status, output = doctor("Dialog", loop)

    assert status == 1
    assert "set actor_rollout_ref.rollout.agent.default_agent_loop=gym" in output.out


def test_an_environment_that_cannot_be_opened_is_a_problem_without_our_loop_too(doctor):
    loop = "actor_rollout_ref.rollout.agent.default_agent_loop=single_turn_agent"
    status, output = doctor("Unmade", loop)

    assert status == 1
    assert "environment 'Unmade' can't be opened: RuntimeError: no browser" in output.out


def test_replies_that_nothing_verifies_are_a_problem(doctor):
    status, output = doctor("Echo", "reward.custom_reward_function.path=null")

    assert status == 1
    assert "nothing verifies the replies of environment 'Echo'" in output.out


def test_a_mix_is_played_by_the_agent_loop_if_one_of_it_needs_that(capsys, tmp_path):
    main(["overrides", f"{ENVIRONMENTS}:Echo", f"{ENVIRONMENTS}:Adder", "--data", str(tmp_path)])

    printed = capsys.readouterr().out
    assert "default_agent_loop=gym" in printed
    assert "custom_reward_function" not in printed


def test_data_is_json_lines_of_the_fields_verl_knows(tmp_path, capsys):
    main(["data", f"{ENVIRONMENTS}:Echo", "--train", "1", "--val", "1", "--out", str(tmp_path)])

    row = json.loads((tmp_path / "train.jsonl").read_text())
    assert row.keys() == {"data_source", "prompt", "reward_model", "extra_info"}
    assert isinstance(row["extra_info"]["gym"], str)
