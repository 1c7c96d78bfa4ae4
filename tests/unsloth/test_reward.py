import pytest

from gym_adapters.trl import gym_dataset
from gym_adapters.trl import gym_reward as trl_gym_reward
from gym_adapters.unsloth.reward import ExcludingReward, without_none
from gym_core import Environment, GymError, Task, read_rollouts, user


class Flaky(Environment):
    """Its judge answers from the second time on it is asked of a reply; of "down", never."""

    tasks = [Task([user("a?")], answer="a", id="a"), Task([user("b?")], answer="b", id="b")]
    asked: dict[str, int]

    def verify(self, rollout):
        reply = rollout.last_reply
        self.asked[reply] = self.asked.get(reply, 0) + 1
        if reply == "down" or self.asked[reply] == 1:
            raise ConnectionError("no answer")
        return float(reply == self.task.answer)


@pytest.fixture
def ask(tmp_path):
    """Rewards for replies to the first task, and how often each was judged."""

    def rewards(*replies):
        Flaky.asked = {}
        row = gym_dataset(Flaky)[0]
        reward = ExcludingReward(trl_gym_reward(Flaky, rollouts_dir=tmp_path))
        completions = [[{"role": "assistant", "content": reply}] for reply in replies]
        return reward([row["prompt"]] * len(replies), completions, gym_row=[row["gym_row"]] * len(replies))

    return rewards


def test_a_rollout_without_a_reward_is_verified_again(ask):
    assert ask("a", "wrong") == [1.0, 0.0]
    assert Flaky.asked == {"a": 2, "wrong": 2}


def test_a_rollout_that_stays_unscored_gets_the_mean_of_its_group(ask, tmp_path, caplog):
    assert ask("a", "wrong", "wrong too", "down") == [1.0, 0.0, 0.0, pytest.approx(1 / 3)]
    assert Flaky.asked["down"] == 3
    assert caplog.messages[-1] == "1 of 4 rollouts could not be scored; nothing is learned from them"
    errors = [rollout.error.message for rollout in read_rollouts(tmp_path / "rollouts.jsonl") if rollout.error]
    assert errors.count("ConnectionError: no answer") == len(errors) == 3 + 3


def test_a_group_without_any_reward_stops_the_run(ask):
    with pytest.raises(GymError, match=r"2 of 2 rollouts could not be scored in 3 tries, .* use trl >= 1\.9\.2"):
        ask("down", "down")


def test_groups_over_several_ranks_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert without_none([1.0, 0.5], ["a", "a"]) == [1.0, 0.5]
    with pytest.raises(GymError, match="1 of 2 rollouts could not be scored"):
        without_none([1.0, None], ["a", "a"])
