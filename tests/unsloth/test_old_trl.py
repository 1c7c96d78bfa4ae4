"""Single turns with the oldest TRL that notebooks of Unsloth's pin, whose GRPOTrainer knows rewards only."""

import pytest

import gym_adapters.unsloth
from gym_adapters.unsloth.imports import NONE_SINCE, trl_version
from gym_core import GymError, read_rollouts

pytestmark = pytest.mark.skipif(trl_version() >= NONE_SINCE, reason="for TRL before 1.9.2")


def test_single_turns_are_rewarded(train, echo, logged, tmp_path):
    trainer = train(echo, lambda conversation: f"{conversation[6]}<eos>", rollouts_dir=tmp_path)
    assert logged(trainer)["rewards/gym/Echo/mean"] == 1.0
    assert [rollout.reward for rollout in read_rollouts(tmp_path / "rollouts.jsonl")] == [1.0] * 4


def test_a_failure_gives_neither_zero_nor_an_advantage(train, echo, logged, tmp_path):
    class Broken(echo):
        """Can't judge a wrong reply."""

        def verify(self, rollout):
            if rollout.last_reply != self.task.answer:
                raise ConnectionError("the judge is away")
            return 1.0

    replies = iter(range(100))

    def reply(conversation):
        return f"{conversation[6] if next(replies) % 2 else 'x'}<eos>"

    metrics = logged(train(Broken, reply, rollouts_dir=tmp_path))
    assert metrics["reward"] == 1.0
    assert metrics["reward_std"] == 0.0
    errors = [rollout.error is not None for rollout in read_rollouts(tmp_path / "rollouts.jsonl")]
    assert (errors.count(True), errors.count(False)) == (2 * 3, 2)


@pytest.mark.parametrize("name", ["gym_environment", "gym_rollout", "rollout_with_model", "save_all", "sft_warmup"])
def test_a_function_that_needs_a_newer_trl_says_so(name):
    with pytest.raises(GymError, match=rf"{name} needs trl >= 1\.15, found "):
        getattr(gym_adapters.unsloth, name)
