"""Unsloth's CPU backend, running: TRL's own GRPOTrainer on a model that Unsloth has loaded, with its LoRA."""

from gym_adapters.unsloth import gym_environment, gym_rollout
from gym_core import read_rollouts


def add(conversation):
    number = int(conversation.rpartition("<user>")[2][0])
    if "<tool>" in conversation:
        return f"{number + 2}<eos>"
    return f'<call>add {{"a": {number}, "b": 2}}</call><eos>'


def test_single_turns_are_rewarded(train, echo, logged):
    metrics = logged(train(echo, lambda conversation: f"{conversation[6]}<eos>", args={"max_completion_length": 8}))
    assert metrics["rewards/gym/Echo/mean"] == 1.0


def test_episodes_with_tools_are_played(train, adder, logged, tmp_path):
    metrics = logged(train(adder, add, rollout_func=gym_rollout(adder), rollouts_dir=tmp_path))
    assert (metrics["rewards/gym/Adder/mean"], metrics["gym/Adder/turns"]) == (1.0, 2.0)
    assert metrics["gym/Adder/broken_tokens"] == 0.0
    for rollout in read_rollouts(tmp_path / "rollouts.jsonl"):
        assert (
            rollout.tokens.mask.count(0) == len("<tool>2<assistant>".replace("tool", "").replace("assistant", "")) - 2
        )


def test_environments_with_tools_are_played_by_trl(train, adder, logged):
    args = {"max_tool_calling_iterations": 2}
    metrics = logged(train(adder, add, environment_factory=gym_environment(adder), args=args))
    assert (metrics["rewards/gym/Adder/mean"], metrics["tools/call_frequency"]) == (1.0, 1.0)


def test_a_failure_is_left_out_of_its_group(train, adder, logged, tmp_path):
    class Last(adder):
        """Its only task breaks when the tool is called."""

        tasks = adder.tasks[7:]

    calls = iter(range(100))

    def reply(conversation):
        return add(conversation) if next(calls) % 2 else "9<eos>"

    metrics = logged(train(Last, reply, rollout_func=gym_rollout(Last), rollouts_dir=tmp_path))
    rewards = [rollout.reward for rollout in read_rollouts(tmp_path / "rollouts.jsonl")]
    assert sorted(rewards, key=str) == [1.0, 1.0, None, None]
    assert metrics["reward"] == 1.0  # as 0 they would have made it a half
