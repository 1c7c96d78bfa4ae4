import asyncio
import pickle
import time

import pytest
import torch
from trl import GRPOTrainer, RLOOConfig, RLOOTrainer

from gym_adapters.trl import gym_dataset, gym_reward
from gym_core import Environment, GymError, Task, mix, read_rollouts, system, user


class Parity(Environment):
    """Even or odd? The verifier breaks on "broken"."""

    tasks = [Task([user(f"is {i} even or odd?")], answer="even" if i % 2 == 0 else "odd") for i in range(8)]

    async def verify(self, rollout):
        await asyncio.sleep(0.05)
        if rollout.last_reply == "broken":
            raise RuntimeError("the verifier's server is gone")
        return float(rollout.last_reply == self.task.answer)


class Always(Environment):
    """Rewards anything."""

    tasks = [Task([user(f"say {i}")]) for i in range(8)]

    def verify(self, rollout):
        return 1.0


def judge(reward, completions, **columns):
    rows = gym_dataset(Parity)["gym_row"][: len(completions)]
    prompts = [task.prompt for task in Parity.tasks[: len(completions)]]
    replies = [[{"role": "assistant", "content": text}] for text in completions]
    return asyncio.run(reward(prompts=prompts, completions=replies, **{"gym_row": rows, **columns}))


def test_a_broken_verifier_gives_none_and_a_wrong_answer_zero():
    assert judge(gym_reward(Parity), ["even", "broken", "odd"]) == [1.0, None, 0.0]


def test_plain_string_completions_are_accepted():
    rows = gym_dataset(Parity)["gym_row"][:2]
    rewards = gym_reward(Parity)(prompts=["a", "b"], completions=["even", "odd"], gym_row=rows)
    assert asyncio.run(rewards) == [1.0, 1.0]


def test_a_batch_is_verified_concurrently():
    started = time.monotonic()
    rows = [*gym_dataset(Parity)["gym_row"]] * 8
    replies = [[{"role": "assistant", "content": "even"}]] * 64
    asyncio.run(gym_reward(Parity)(prompts=[[]] * 64, completions=replies, gym_row=rows))
    assert time.monotonic() - started < 64 * 0.05 / 2


class Quiz(Environment):
    """Makes its opening itself."""

    tasks = [Task([], answer="4")]

    def setup(self):
        return [system("Answer in digits."), user("What is 2+2?")]

    def verify(self, rollout):
        return float(rollout.last_reply == self.task.answer)


class Framed(Quiz):
    """Has a prompt, and shows another opening."""

    tasks = [Task([user("What is 2+2?")], answer="4")]


@pytest.mark.parametrize("env", [Quiz, Framed])
def test_replies_to_an_opening_that_was_never_shown_are_refused(env):
    row = gym_dataset(env)[0]
    reply = [{"role": "assistant", "content": "4"}]
    with pytest.raises(GymError, match=r"makes its own opening .*; pass rollout_func=gym_rollout\(env\)"):
        asyncio.run(gym_reward(env)(prompts=[row["prompt"]], completions=[reply], gym_row=[row["gym_row"]]))
    shown = [system("Answer in digits."), user("What is 2+2?")]
    assert asyncio.run(gym_reward(env)(prompts=[shown], completions=[reply], gym_row=[row["gym_row"]])) == [1.0]


def test_a_dataset_without_our_column_is_refused():
    with pytest.raises(GymError, match="build it with gym_dataset"):
        judge(gym_reward(Parity), ["even"], gym_row=None)


def test_it_is_named_after_its_environment_and_pickles():
    reward = pickle.loads(pickle.dumps(gym_reward(mix([Parity, Always]))))
    assert reward.__name__ == "gym/Parity+Always"
    assert judge(gym_reward(Parity), ["even"]) == judge(pickle.loads(pickle.dumps(gym_reward(Parity))), ["even"])


def test_unknown_arguments_of_trl_are_ignored():
    assert judge(gym_reward(Parity), ["even"], completion_ids=[[1]], some_column=["x"]) == [1.0]


def test_grpo_equals_a_hand_written_reward_function(train, logged):
    def by_hand(completions, gym_row, **_):
        return [0.0 if completion[-1]["content"] != "even" else 1.0 for completion in completions]

    def dataset(env):
        return gym_dataset(env, tasks=Parity.tasks[::2])

    def reply():
        said = iter("eeoeooeo")
        return lambda conversation: {"e": "even", "o": "odd"}[next(said)] + "<eos>"

    ours = train(Parity, reply(), steps=2, dataset=dataset(Parity))
    theirs = train(Parity, reply(), steps=2, dataset=dataset(Parity), reward_funcs=by_hand)
    assert 0 < logged(ours)["reward"] < 1
    assert [log["reward"] for log in ours.state.log_history[:2]] == [
        log["reward"] for log in theirs.state.log_history[:2]
    ]


def test_metrics_and_columns_are_logged(train, logged):
    said = iter(["even", "odd", "broken", "even"])
    trainer = train(Parity, lambda _: next(said) + "<eos>")
    metrics = logged(trainer)
    assert metrics["rewards/gym/Parity/mean"] == pytest.approx(2 / 3)
    assert (metrics["gym/Parity/errors"], metrics["gym/Parity/turns"]) == (0.25, 1.0)
    extra = trainer._logs["extra"]
    assert list(extra["gym_task"]) == [Parity.tasks[0].id] * 4
    assert sorted(extra["gym_error"]) == ["", "", "", "RuntimeError: the verifier's server is gone"]


def test_a_failure_leaves_the_advantages_of_its_group_as_they_were_without_it(train):
    grabbed = []

    def grab(trainer_class):
        class Grabbing(trainer_class):
            def _compute_loss(self, model, inputs):
                grabbed.append(inputs["advantages"])
                return super()._compute_loss(model, inputs)

        return Grabbing

    said = iter(["even", "odd", "broken", "even"])
    options = {"trainer": grab(GRPOTrainer), "args": {"scale_rewards": "none"}}
    train(Parity, lambda _: next(said) + "<eos>", **options)
    scored = torch.tensor([1.0, 0.0, 1.0])
    expected = [0.0, *(scored - scored.mean()).tolist()]
    assert sorted(grabbed[0].tolist()) == pytest.approx(sorted(expected))


def test_rloo_takes_the_same_reward(train, logged):
    said = iter(["even", "odd", "even", "even"] * 4)
    trainer = train(Parity, lambda _: next(said) + "<eos>", trainer=RLOOTrainer, config=RLOOConfig, args={"beta": 0.0})
    assert logged(trainer)["reward"] == 0.75


def test_several_environments_share_a_run_and_have_metrics_of_their_own(train, logged):
    both = [Parity, Always]
    dataset = gym_dataset(both).select([0, 8])  # the first task of each
    trainer = train(
        both,
        lambda _: "odd<eos>",
        dataset=dataset,
        args={"per_device_train_batch_size": 8},
    )
    metrics = logged(trainer)
    assert (metrics["gym/Parity/turns"], metrics["gym/Always/turns"]) == (1.0, 1.0)
    assert metrics["rewards/gym/Parity+Always/mean"] == 0.5


def test_rollouts_are_written_with_the_step(train, tmp_path, monkeypatch):
    reward = gym_reward(Parity, rollouts_dir=tmp_path / "rollouts")
    train(Parity, lambda _: "even<eos>", steps=2, reward_funcs=reward)
    rollouts = list(read_rollouts(tmp_path / "rollouts" / "rollouts.jsonl"))
    assert [rollout.step for rollout in rollouts] == [0] * 4 + [1] * 4
    assert rollouts[0].output[-1]["content"] == "even"
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    judge(reward, ["even"])
    assert len(list(read_rollouts(tmp_path / "rollouts" / "rollouts.rank1.jsonl"))) == 1


def test_an_environment_class_that_is_not_ours_leaves_the_verdict_to_the_messages(train, logged):
    class Plain:
        """As TRL's documentation has it."""

        def reset(self, **_):
            return None

        def look(self) -> str:
            """Look."""
            return ""

    trainer = train(Parity, lambda _: "even<eos>", environment_factory=Plain)
    assert logged(trainer)["reward"] == 1.0
