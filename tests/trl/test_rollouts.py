import asyncio
import json
import os
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from trl import GRPOTrainer

from gym_adapters.trl import gym_dataset, gym_environment, gym_reward, gym_rollout
from gym_adapters.trl.generation import check_generation
from gym_core import Environment, GymError, Task, mix, read_rollouts, text, tool, user


class Guess(Environment):
    """Find the number by user turns; the opening is the environment's own."""

    tasks = [Task([], answer=secret, id=f"guess-{secret}") for secret in (3, 5, 7, 8)]
    max_turns = 4

    async def setup(self):
        return [user("1-8?")]

    async def respond(self, message):
        guess = int(re.search(r"\d", text(message) + "0")[0])
        if guess == self.task.answer:
            return None
        if guess == 1:
            raise RuntimeError("the referee has left")
        return user("higher" if guess < self.task.answer else "lower")

    def verify(self, rollout):
        return float(rollout.last_reply == str(self.task.answer))


def bisect(conversation):
    low, high = 1, 8
    for guess, hint in re.findall(r"<assistant>(\d)<eos><user>(higher|lower)", conversation):
        low, high = (int(guess) + 1, high) if hint == "higher" else (low, int(guess) - 1)
    return f"{(low + high) // 2}<eos>"


@pytest.fixture
def grabbing():
    """A trainer that keeps what the loss is given."""
    grabbed = []

    class Grabbing(GRPOTrainer):
        def _compute_loss(self, model, inputs):
            grabbed.append({name: value for name, value in inputs.items() if torch.is_tensor(value)})
            return super()._compute_loss(model, inputs)

    return Grabbing, grabbed


def test_user_turns_are_played_and_only_sampled_tokens_are_trained_on(train, grabbing, tokenizer, logged):
    trainer_class, grabbed = grabbing
    trainer = train(Guess, bisect, trainer=trainer_class, rollout_func=gym_rollout(Guess))
    assert logged(trainer)["rewards/gym/Guess/mean"] == 1.0
    (inputs,) = grabbed
    shown = tokenizer.decode(inputs["completion_ids"][0])
    trained = tokenizer.decode(inputs["completion_ids"][0][inputs["tool_mask"][0].bool()])
    assert tokenizer.decode(inputs["prompt_ids"][0]).endswith("<user>1-8?<assistant>")
    assert shown.startswith("4<eos><user>lower<assistant>2<eos><user>higher<assistant>3<eos>")
    assert trained.replace("<pad>", "") == "4<eos>2<eos>3<eos>"


def test_a_mix_of_games_and_tools_is_played_in_one_batch(train, adder, logged):
    def reply(conversation):
        if "1-8?" in conversation:
            return bisect(conversation)
        a, b = re.search(r"<user>(\d+)\+(\d+)", conversation).groups()
        return (
            f"{int(a) + int(b)}<eos>" if "<tool>" in conversation else f'<call>add {{"a": {a}, "b": {b}}}</call><eos>'
        )

    both = mix([Guess, adder])
    dataset = gym_dataset(both).select([0, 4])
    options = {"rollout_func": gym_rollout(both), "args": {"per_device_train_batch_size": 8}}
    metrics = logged(train(both, reply, dataset=dataset, **options))
    assert metrics["reward"] == 1.0
    assert (metrics["gym/Guess/turns"], metrics["gym/Adder/turns"]) == (3.0, 2.0)


def test_tools_of_a_batch_run_concurrently(train, use_tool, adder, logged):
    class Waiting(adder):
        """Each tool call waits until all four of the batch have begun."""

        all_begun = asyncio.Barrier(4)

        @tool
        async def add(self, a: int, b: int) -> int:
            """Add two numbers.

            Args:
                a: The first number.
                b: The second number.
            """
            await self.all_begun.wait()
            return a + b

    metrics = logged(train(Waiting, use_tool, rollout_func=gym_rollout(Waiting)))
    assert metrics["gym/Waiting/tool_errors"] == 0.0


def test_gym_environment_and_gym_rollout_give_the_same_tokens_masks_and_rewards(train, grabbing, adder):
    """The model samples for real here, at one seed; what is random must be the same in both."""
    trainer_class, grabbed = grabbing

    def reply(conversation):
        if "<tool>" in conversation:
            return f"{torch.randint(10, ()).item()}<eos>"
        a, b = re.search(r"<user>(\d+)\+(\d+)", conversation).groups()
        calls = [f'<call>add {{"a": {a}, "b": {b}}}</call><eos>', f"{int(a) + int(b)}<eos>", "?<eos>"]
        return calls[torch.randint(3, ()).item()]

    args = {"max_tool_calling_iterations": 2, "per_device_train_batch_size": 8}
    rewards = []
    for hook in ({"environment_factory": gym_environment(adder)}, {"rollout_func": gym_rollout(adder)}):
        trainer = train(adder, reply, trainer=trainer_class, steps=2, args=args, **hook)
        rewards.append([log["reward"] for log in trainer.state.log_history if "reward" in log])
    assert rewards[0] == rewards[1]
    assert any(0 < reward < 1 for reward in rewards[0])
    half = len(grabbed) // 2
    for ours, theirs in zip(grabbed[:half], grabbed[half:], strict=True):
        for name in ("prompt_ids", "completion_ids", "completion_mask", "tool_mask", "advantages"):
            assert torch.equal(ours[name], theirs[name]), name


def test_a_failed_rollout_is_masked_and_leaves_its_group_as_it_was_without_it(train, grabbing, logged):
    trainer_class, grabbed = grabbing
    first = iter(["3", "1", "3", "9"])

    def reply(conversation):
        return (next(first) if conversation.endswith("1-8?<assistant>") else "3") + "<eos>"

    args = {"scale_rewards": "none"}
    trainer = train(Guess, reply, trainer=trainer_class, rollout_func=gym_rollout(Guess), args=args)
    metrics = logged(trainer)
    assert metrics["gym/Guess/errors"] == 0.25
    (inputs,) = grabbed
    trained = inputs["tool_mask"] * inputs["completion_mask"]
    failed = [row for row in range(4) if not trained[row].any()]
    assert len(failed) == 1
    assert inputs["advantages"][failed[0]] == 0.0
    assert inputs["advantages"].tolist() == [0.0] * 4  # the three others all won: their baseline is 1, not 0.75


def test_an_environment_that_cannot_be_set_up_does_not_stop_the_step(train, logged, adder):
    class Flaky(adder):
        """Its first two set-ups fail."""

        opened = 0

        def setup(self):
            type(self).opened += 1
            if type(self).opened <= 2:
                raise ConnectionError("refused")

    metrics = logged(train(Flaky, lambda _: "2<eos>", rollout_func=gym_rollout(Flaky)))
    assert (metrics["gym/Flaky/errors"], metrics["reward"]) == (0.5, 1.0)


def test_a_rollout_out_of_tokens_is_truncated_at_a_turn(train, logged, tmp_path):
    options = {"rollout_func": gym_rollout(Guess), "args": {"max_completion_length": 24}}
    reward = gym_reward(Guess, rollouts_dir=tmp_path / "rollouts")
    metrics = logged(train(Guess, lambda _: "9<eos>", reward_funcs=reward, **options))
    assert metrics["gym/Guess/truncations"] == 1.0
    rollout = next(read_rollouts(tmp_path / "rollouts" / "rollouts.jsonl"))
    assert rollout.stop_reason == "length"
    assert len(rollout.tokens.completion_ids) <= 24


def test_a_turn_has_a_budget_of_its_own(train, logged):
    def ramble(conversation):
        return "x" * 50

    options = {"rollout_func": gym_rollout(Guess, max_turn_tokens=5), "args": {"max_completion_length": 90}}
    metrics = logged(train(Guess, ramble, **options))
    assert metrics["gym/Guess/turns"] == 4.0


def test_evaluation_plays_too(train, tokenizer):
    evaluated = gym_dataset(Guess)
    trainer = train(
        Guess,
        bisect,
        rollout_func=gym_rollout(Guess),
        eval_dataset=evaluated,
        args={"num_generations_eval": 2, "per_device_eval_batch_size": 4},
    )
    assert trainer.evaluate()["eval_reward"] == 1.0


def test_verdicts_are_not_made_twice(train):
    class Counting(Guess):
        """Counts its verdicts."""

        verdicts = 0

        def verify(self, rollout):
            type(self).verdicts += 1
            return 1.0

    train(Counting, bisect, rollout_func=gym_rollout(Counting))
    assert Counting.verdicts == 4


def test_a_failing_engine_ends_the_run_with_its_own_error(train):
    closed = []

    class Closing(Guess):
        """Says when it is closed."""

        def close(self):
            closed.append(self.task.id)

    def broken(conversation):
        raise torch.cuda.OutOfMemoryError("no memory")

    with pytest.raises(torch.cuda.OutOfMemoryError, match="no memory"):
        train(Closing, broken, rollout_func=gym_rollout(Closing))
    deadline = time.monotonic() + 5
    while len(closed) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)  # they close on the loop of the episodes
    assert len(closed) == 4


def test_a_template_that_cannot_be_continued_is_refused_at_the_start(train, tokenizer, adder, monkeypatch):
    monkeypatch.setattr(tokenizer, "response_template", None)
    with pytest.raises(
        GymError, match="'Adder' can't be played with this tokenizer: the tokenizer has no response_templ"
    ):
        train(adder, lambda _: "2<eos>", rollout_func=gym_rollout(adder))
    nothing_ends_a_turn = "{%- for m in messages -%}{{ m.role ~ ': ' ~ m.content ~ '; ' }}{%- endfor -%}"
    monkeypatch.setattr(tokenizer, "chat_template", nothing_ends_a_turn)
    with pytest.raises(GymError, match=r"'Guess' can't be played .*: no special token ends the assistant's turn"):
        train(Guess, lambda _: "2<eos>", rollout_func=gym_rollout(Guess))


def ranks(**changes):
    plugin = changes.pop("plugin", None)
    args = SimpleNamespace(
        vllm_mode=changes.pop("vllm_mode", "colocate"), vllm_tensor_parallel_size=changes.pop("tp", 1)
    )
    accelerator = SimpleNamespace(num_processes=2, state=SimpleNamespace(deepspeed_plugin=plugin))
    settings = {"use_vllm": False, "is_fsdp_enabled": False, **changes}
    return SimpleNamespace(args=args, accelerator=accelerator, **settings)


def test_set_ups_in_which_ranks_would_wait_for_each_other_are_refused():
    with pytest.raises(GymError, match=r"sharded weights \(ZeRO-3, FSDP\).*use vLLM, ZeRO-2 or DDP"):
        check_generation(ranks(plugin=SimpleNamespace(zero_stage=3)))
    with pytest.raises(GymError, match="sharded weights"):
        check_generation(ranks(is_fsdp_enabled=True))
    with pytest.raises(GymError, match="vllm_tensor_parallel_size is 2, expected 1"):
        check_generation(ranks(use_vllm=True, tp=2))
    check_generation(ranks(use_vllm=True, vllm_mode="server"))
    check_generation(ranks(plugin=SimpleNamespace(zero_stage=2)))


def test_with_a_vllm_server_each_rank_asks_for_its_own_rollouts(vllm_server, tokenizer):
    trainer = SimpleNamespace(
        args=SimpleNamespace(
            vllm_mode="server",
            vllm_server_base_url=vllm_server(bisect),
            temperature=0.7,
            top_p=1.0,
            top_k=0,
            min_p=None,
            repetition_penalty=1.0,
            generation_kwargs=None,
        ),
        accelerator=SimpleNamespace(num_processes=2),
        use_vllm=True,
        processing_class=tokenizer,
        eos_token_ids=[tokenizer.eos_token_id],
        chat_template_kwargs={},
        max_completion_length=96,
    )
    prompts = gym_dataset(Guess)["prompt"]
    fields = gym_rollout(Guess)([*prompts], trainer)
    assert [rollout.reward for rollout in fields["gym_rollout"]] == [1.0] * 4
    assert (
        tokenizer.decode(fields["completion_ids"][0])
        == "4<eos><user>lower<assistant>2<eos><user>higher<assistant>3<eos>"
    )
    sampled = [-0.5 if sampled else 0.0 for sampled in fields["env_mask"][0]]
    assert fields["logprobs"][0] == sampled
    assert [rollout.tokens.broken for rollout in fields["gym_rollout"]] == [None] * 4


@pytest.mark.slow
def test_continuous_batching_plays_too(train, logged):
    class OneTurn(Guess):
        """Ends after its first turn, since each batch takes seconds to set up on a CPU."""

        max_turns = 1

    args = {"use_transformers_continuous_batching": True, "max_completion_length": 8}
    metrics = logged(train(OneTurn, None, rollout_func=gym_rollout(OneTurn), args=args))
    assert (metrics["gym/OneTurn/turns"], metrics["gym/OneTurn/errors"]) == (1.0, 0.0)
    assert metrics["completions/max_length"] <= 8


TWO_RANKS = """
import json, os, sys
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
sys.path[:0] = json.loads(os.environ["PATHS"])
import torch
torch.set_num_threads(1)
from test_rollouts import Guess, bisect
from gym_adapters.trl import gym_dataset, gym_reward, gym_rollout
from gym_adapters.trl.testing import char_tokenizer, script, tiny_model
from trl import GRPOConfig, GRPOTrainer

tokenizer = char_tokenizer()
model = tiny_model(tokenizer, hidden_size=32)
rank = int(os.environ["RANK"])
if os.environ["SERVER"]:  # as if the trainer had one, which it can't on a CPU
    import gym_adapters.trl.rollouts
    from gym_core.policies.vllm import VLLMPolicy
    gym_adapters.trl.rollouts.server_policy = lambda trainer: VLLMPolicy(os.environ["SERVER"])
# Rank 1 needs one turn, rank 0 needs several: their numbers of generations differ.
script(model, tokenizer, bisect if rank == 0 else lambda conversation: "4<eos>")

class OneTurn(Guess):
    async def respond(self, message):
        return None if rank else await super().respond(message)

folder = os.environ["FOLDER"]
args = GRPOConfig(output_dir=folder, per_device_train_batch_size=4, num_generations=4, max_completion_length=96,
                  max_steps=2, logging_steps=1, report_to="none", save_strategy="no", use_cpu=True, bf16=False,
                  disable_tqdm=True)
GRPOTrainer(model=model, args=args, train_dataset=gym_dataset(OneTurn), processing_class=tokenizer,
            reward_funcs=gym_reward(OneTurn, rollouts_dir=folder), rollout_func=gym_rollout(OneTurn)).train()
"""


@pytest.mark.slow
@pytest.mark.parametrize("server", [False, True])
def test_two_ranks_with_unequal_turns_neither_hang_nor_mix(tmp_path, vllm_server, server):
    script_path = tmp_path / "two_ranks.py"
    script_path.write_text(TWO_RANKS)
    here = os.path.dirname(os.path.abspath(__file__))
    settings = {
        "PATHS": json.dumps([here, os.path.dirname(os.path.dirname(here))]),
        "FOLDER": str(tmp_path),
        "SERVER": vllm_server(bisect) if server else "",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=2",
        "--master_port=29573",
        str(script_path),
    ]
    result = subprocess.run(launch, capture_output=True, text=True, timeout=240, env={**os.environ, **settings})
    assert result.returncode == 0, result.stderr[-3000:]
    zero, one = (list(read_rollouts(tmp_path / f"rollouts.rank{rank}.jsonl")) for rank in (0, 1))
    assert len(zero) == len(one) == 8
    assert {rollout.reward for rollout in zero} == {1.0}
    assert {rollout.turns for rollout in one} == {1}
    assert {rollout.last_reply for rollout in one} == {"4"}
