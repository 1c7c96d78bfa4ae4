"""What TRL does that the adapter is built around; a test that fails here says that TRL has moved."""

import asyncio
import os
import subprocess
import sys
import time
from itertools import pairwise

import pytest
from datasets import Dataset
from trl import GRPOTrainer

from gym_adapters.trl import gym_dataset, gym_environment
from gym_core import tool

ROWS = Dataset.from_list([{"prompt": [{"role": "user", "content": f"{i}+2"}], "answer": i + 2} for i in range(4)])


class Slow:
    """A plain environment class as TRL's documentation has it, with an async tool."""

    def reset(self, **_):
        self.tools_running = 0

    async def add(self, a: int, b: int) -> str:
        """Add two numbers.

        Args:
            a: The first number.
            b: The second number.
        """
        await asyncio.sleep(0.1)
        return str(a + b)


def test_tools_of_different_rollouts_run_one_after_the_other_even_async_ones(train, adder, use_tool):
    started = []

    class Timed(Slow):
        async def add(self, a: int, b: int) -> str:
            """Add two numbers.

            Args:
                a: The first number.
                b: The second number.
            """
            started.append(time.monotonic())
            return await super().add(a, b)

    train(adder, use_tool, dataset=ROWS, reward_funcs=lambda completions, **_: [1.0] * 4, environment_factory=Timed)
    gaps = [later - earlier for earlier, later in pairwise(started)]
    assert len(gaps) == 3
    assert min(gaps) > 0.09


def test_no_tool_can_say_that_the_episode_is_done(train, adder, logged):
    class Ending(adder):
        """Is done at the first call."""

        @tool
        def add(self, a: int, b: int) -> str:
            """Add two numbers.

            Args:
                a: The first number.
                b: The second number.
            """
            self.done = True
            return "bye"

    calls = []

    def reply(conversation):
        calls.append(conversation)
        return '<call>add {"a": 1, "b": 2}</call><eos>'

    args = {"max_tool_calling_iterations": 2, "max_completion_length": 256}
    options = {"environment_factory": gym_environment(Ending), "args": args}
    metrics = logged(train(Ending, reply, **options))
    assert len(calls) == 4 * 3  # TRL asks on; our tools then say that the episode is over
    assert "the episode is over" in calls[-1]
    assert metrics["gym/Ending/tool_errors"] == 1.0


def test_get_reward_never_sees_the_final_reply(train, adder, use_tool):
    seen = []

    class Judging(Slow):
        def get_reward(self):
            seen.append([name for name in vars(self) if "mess" in name or "complet" in name])
            return 1.0

    train(adder, use_tool, dataset=ROWS, reward_funcs=None, environment_factory=Judging)
    assert seen == [[]] * 4


def test_rollout_func_is_given_prompts_only(train, adder, tokenizer):
    seen = []

    def roll(prompts, trainer):
        seen.append(prompts)
        ids = [tokenizer.apply_chat_template(p, add_generation_prompt=True, return_dict=False) for p in prompts]
        return {"prompt_ids": ids, "completion_ids": [[1]] * len(prompts), "logprobs": None}

    options = {"dataset": gym_dataset(adder), "rollout_func": roll, "reward_funcs": lambda completions, **_: [1.0] * 4}
    train(adder, lambda _: "<eos>", **options)
    assert [set(message) for message in seen[0][0]] == [{"role", "content", "gym_row"}]  # so the row travels in it
    assert len(seen[0]) == 4  # already repeated for each generation


TWO_RANKS = '''
import os
from accelerate import Accelerator
from trl.generation.vllm_generation import VLLMGeneration

class Client:
    """Says ten times the first token of each prompt."""
    def generate(self, prompts, features, n, **_):
        answers = [[prompt[0] * 10] for prompt in prompts for _ in range(n)]
        logprobs = [[[0.0]]] * len(answers)
        return dict(prompt_ids=prompts, completion_ids=answers, logprobs=logprobs, logprob_token_ids=None)

generation = object.__new__(VLLMGeneration)
generation.accelerator, generation.mode, generation.enable_sleep_mode = Accelerator(cpu=True), "server", False
generation.vllm_client = Client()
for name in ("temperature top_p top_k min_p repetition_penalty max_completion_length logprobs "
             "structured_outputs_regex generation_kwargs").split():
    setattr(generation, name, None)
rank = int(os.environ["RANK"])
asked = [[1], [2], [3]] if rank == 0 else [[7]]
got = generation.generate(prompts=asked, images=None, num_generations=1)[1]
open(os.environ["FOLDER"] + f"/rank{rank}", "w").write(str(got))
'''


@pytest.mark.slow
def test_in_server_mode_a_rank_gets_another_ranks_completions(tmp_path):
    path = tmp_path / "two_ranks.py"
    path.write_text(TWO_RANKS)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(path)]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "FOLDER": str(tmp_path)}
    result = subprocess.run(launch, capture_output=True, text=True, timeout=120, env=env)
    assert result.returncode == 0, result.stderr[-2000:]
    assert (tmp_path / "rank0").read_text() == "[[10], [20], [30]]"
    assert (tmp_path / "rank1").read_text() == "[[20]]"  # its own would be [[70]]: why preflight refuses this set-up


def test_grpo_trainer_is_the_released_one():
    import trl

    assert GRPOTrainer.__module__.startswith("trl.")
    assert tuple(map(int, trl.__version__.split(".")[:2])) >= (1, 15)
