import asyncio
import itertools

import pytest

from gym_core import Completion, Environment, Rollout, Score, Task, assistant, collect, mix, user
from gym_core.environments import RolloutError
from gym_core.episodes import verify_groups


class Alone(Environment):
    """Judges each rollout by itself."""

    tasks = [Task([user("?")], answer=0.25, id=f"alone-{i}") for i in range(2)]

    def verify(self, rollout):
        return self.task.answer


class Brief(Environment):
    """The correct reply; of several, the shortest."""

    tasks = [Task([user("?")], answer="a", id=f"brief-{i}") for i in range(3)]

    def verify(self, rollout):
        if rollout.last_reply == "broken":
            raise OSError("the disk is full")
        return Score(float(rollout.last_reply.startswith("a")), {"correct": 1.0})

    @classmethod
    def verify_group(cls, rollouts):
        shortest = min(len(rollout.last_reply) for rollout in rollouts)
        return [
            Score(rollout.reward * (len(rollout.last_reply) == shortest), {"best": 1.0, "group": len(rollouts)})
            for rollout in rollouts
        ]


class Ranked(Brief):
    """Asks somebody else."""

    @classmethod
    async def verify_group(cls, rollouts):
        await asyncio.sleep(0)
        return [position / len(rollouts) for position, _ in enumerate(rollouts)]


class Sloppy(Brief):
    """Forgets one."""

    @classmethod
    def verify_group(cls, rollouts):
        return [1.0] * (len(rollouts) - 1)


class Broken(Brief):
    """Can't judge."""

    @classmethod
    def verify_group(cls, rollouts):
        raise ConnectionError("the judge is away")


def rollout(task: Task, reply: str, reward: float | None = 1.0) -> Rollout:
    return Rollout(reward, [user("?"), assistant(reply)], {"correct": 1.0}, task=task)


def saying(*replies: str):
    turns = itertools.cycle(replies)

    async def policy(messages, tools):
        await asyncio.sleep(0)
        return Completion(assistant(next(turns)))

    return policy


async def test_rollouts_of_a_task_are_judged_together_and_keep_their_places():
    one, two = Brief.tasks[:2]
    played = [rollout(one, "aaa"), rollout(two, "aaaa"), rollout(one, "a"), rollout(two, "a" * 9)]
    judged = await verify_groups(Brief, played)
    assert [verdict.reward for verdict in judged] == [0.0, 1.0, 1.0, 0.0]
    assert judged[0].components == {"correct": 1.0, "best": 1.0, "group": 2.0}
    assert [verdict.output for verdict in judged] == [before.output for before in played]


async def test_a_rollout_without_a_reward_is_left_out_of_its_group():
    lost = Rollout(None, [], error=RolloutError("verify", "?"), task=Brief.tasks[0])
    judged = await verify_groups(Brief, [lost, rollout(Brief.tasks[0], "aa")])
    assert judged[0] is lost
    assert judged[1].reward == judged[1].components["group"] == 1.0


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        (Sloppy, "verify_group: it must score each of the 2 rollouts, not 1"),
        (Broken, "verify_group: ConnectionError: the judge is away"),
    ],
)
async def test_a_group_that_could_not_be_judged_has_no_reward(env, sentence):
    judged = await verify_groups(env, [rollout(env.tasks[0], "a"), rollout(env.tasks[0], "b")])
    assert [(r.reward, r.components, r.error) for r in judged] == [(None, {}, RolloutError("verify", sentence))] * 2


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(SystemExit(2), "SystemExit: 2"), (asyncio.CancelledError(), "something it waited for was cancelled")],
    ids=["exit", "cancelled"],
)
async def test_nothing_that_a_group_verifier_raises_escapes(error, sentence):
    class Ends(Brief):
        @classmethod
        async def verify_group(cls, rollouts):
            raise error

    (judged,) = await verify_groups(Ends, [rollout(Ends.tasks[0], "a")])
    assert judged.error == RolloutError("verify", f"verify_group: {sentence}")


async def test_a_group_whose_judge_cannot_be_made_keeps_no_reward():
    class Fails(Brief):
        def __init__(self, task):
            raise OSError("too many open files")

    def env(task):
        return Fails(task)

    env.name, env.tasks = "Fails", Fails.tasks
    (judged,) = await verify_groups(env, [rollout(Fails.tasks[0], "a")])
    assert judged.reward is None
    assert judged.error == RolloutError("verify", "verify_group: OSError: too many open files")


async def test_groups_are_judged_at_the_same_time():
    class Meets(Brief):
        judging = asyncio.Barrier(len(Brief.tasks))

        @classmethod
        async def verify_group(cls, rollouts):
            await cls.judging.wait()
            return [1.0 for _ in rollouts]

    async with asyncio.timeout(5):
        judged = await verify_groups(Meets, [rollout(task, "b", 0.0) for task in Meets.tasks])
    assert [verdict.reward for verdict in judged] == [1.0] * 3


async def test_environments_of_a_mix_judge_their_own():
    both = mix([Alone, Brief])
    tasks = list(both.tasks)
    judged = await verify_groups(both, [rollout(tasks[0], "aa", 0.25), rollout(tasks[2], "aa"), rollout(tasks[2], "a")])
    assert [verdict.reward for verdict in judged] == [0.25, 0.0, 1.0]


async def test_collect_yields_a_group_when_it_is_judged():
    rollouts = [r async for r in collect(Brief, saying("aaa", "aa", "a", "b"), samples=4, concurrency=5)]
    assert len(rollouts) == 12
    for group in (rollouts[:4], rollouts[4:8], rollouts[8:]):
        assert len({r.task.id for r in group}) == 1
        assert {r.components["group"] for r in group} == {4.0}


async def test_collect_counts_a_broken_rollout_of_a_group():
    rollouts = [r async for r in collect(Brief, saying("broken", "aa", "a"), tasks=Brief.tasks[:1], samples=3)]
    assert sorted((r.reward, r.error is None) for r in rollouts if r.reward is not None) == [(0.0, True), (1.0, True)]
    assert [r.error.message for r in rollouts if r.reward is None] == ["OSError: the disk is full"]


async def test_an_async_group_verifier_is_awaited():
    rollouts = [r async for r in collect(Ranked, saying("a"), tasks=Ranked.tasks[:1], samples=4)]
    assert sorted(r.reward for r in rollouts) == [0.0, 0.25, 0.5, 0.75]


async def test_leaving_while_a_group_is_judged_leaves_nothing_running():
    class Slow(Brief):
        @classmethod
        async def verify_group(cls, rollouts):
            await asyncio.sleep(60)

    async def gather():
        return [r async for r in collect(Slow, saying("a"), samples=2)]

    gathering = asyncio.ensure_future(gather())
    await asyncio.sleep(0.01)
    gathering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gathering
    assert len(asyncio.all_tasks()) == 1


async def test_the_documented_example_prefers_brief_correct_replies():
    class Short(Brief):
        @classmethod
        def verify_group(cls, rollouts):
            shortest = min((len(rollout.last_reply) for rollout in rollouts if rollout.reward), default=0)
            return [rollout.reward * (len(rollout.last_reply) <= 2 * shortest) for rollout in rollouts]

    played = [rollout(Brief.tasks[0], reply, float(reply[0] == "a")) for reply in ("aa", "aaaa", "aaaaa", "b")]
    assert [r.reward for r in await verify_groups(Short, played)] == [1.0, 1.0, 0.0, 0.0]
    assert [r.reward for r in await verify_groups(Short, played[3:])] == [0.0]
