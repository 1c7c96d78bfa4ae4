import asyncio
import itertools
from collections import Counter
from contextlib import aclosing

import pytest

from gym_core import Completion, Environment, Rollout, ScriptedPolicy, Task, assistant, collect, user


class Endless:
    def __iter__(self):
        return (Task([user("?")], answer=number) for number in itertools.count())


class Watched(Environment):
    """Counts the episodes that are open."""

    tasks = Endless()
    opened = closed = most = 0

    def setup(self):
        cls = type(self)
        cls.opened += 1
        cls.most = max(cls.most, cls.opened - cls.closed)

    def verify(self, rollout):
        return float(self.task.answer)

    async def close(self):
        await asyncio.sleep(0)
        type(self).closed += 1


@pytest.fixture
def env() -> type[Watched]:
    return type("Fresh", (Watched,), {})


def tasks(count: int) -> list[Task]:
    return [Task([user("?")], answer=number) for number in range(count)]


async def slowly(messages, tools) -> Completion:
    await asyncio.sleep(0.001)
    return Completion(assistant("ok"))


async def for_ever(messages, tools) -> Completion:
    await asyncio.sleep(60)
    return Completion(assistant("late"))


def others_running() -> int:
    return len(asyncio.all_tasks()) - 1


async def test_every_task_is_played(env):
    rollouts = [rollout async for rollout in collect(env, slowly, tasks=tasks(50), concurrency=7)]
    assert sorted(rollout.reward for rollout in rollouts) == [float(number) for number in range(50)]
    assert env.opened == env.closed == 50


async def test_no_more_episodes_than_allowed_are_open(env):
    _ = [rollout async for rollout in collect(env, slowly, tasks=tasks(50), concurrency=7)]
    assert env.most == 7


async def test_the_environments_own_tasks_are_the_default():
    class Two(Watched):
        tasks = tasks(2)

    assert len([rollout async for rollout in collect(Two, slowly)]) == 2


async def test_no_tasks_give_no_rollouts(env):
    assert [rollout async for rollout in collect(env, slowly, tasks=[])] == []


async def test_each_task_is_played_as_often_as_asked(env):
    rollouts = [rollout async for rollout in collect(env, slowly, tasks=iter(tasks(5)), samples=4)]
    assert Counter(rollout.task.answer for rollout in rollouts) == dict.fromkeys(range(5), 4)


async def test_tasks_are_drawn_only_when_there_is_room(env):
    drawn = []

    def draw():
        for task in Endless():
            drawn.append(task)
            yield task

    async with aclosing(collect(env, slowly, tasks=draw(), concurrency=3)) as rollouts:
        async for _ in rollouts:
            break
    assert 3 <= len(drawn) <= 6


async def test_other_rollouts_go_on_while_one_is_consumed(env):
    rollouts = collect(env, slowly, tasks=tasks(9), concurrency=3)
    await anext(rollouts)
    await asyncio.sleep(0.02)
    assert env.opened > 3
    await rollouts.aclose()


async def test_a_rollout_is_yielded_as_soon_as_it_ends(env):
    async def policy(messages, tools):
        await asyncio.sleep(0.001 if messages[0]["content"] == "quick" else 60)
        return Completion(assistant("ok"))

    mixed = [Task([user("slow")], answer=1), Task([user("quick")], answer=2)]
    async with aclosing(collect(env, policy, tasks=mixed)) as rollouts:
        assert (await anext(rollouts)).reward == 2.0


async def test_leaving_early_leaves_nothing_running(env):
    async with aclosing(collect(env, slowly, concurrency=8)) as rollouts:
        async for rollout in rollouts:
            if rollout.task.answer > 20:
                break
    assert env.opened == env.closed
    assert others_running() == 0


async def test_breaking_out_of_the_loop_leaves_nothing_running(env):
    async for _ in collect(env, slowly, concurrency=8):
        break
    for _ in range(50):  # the event loop closes the generator
        await asyncio.sleep(0)
    assert env.opened == env.closed > 0


async def test_cancelling_closes_every_environment(env):
    async def gather() -> list[Rollout]:
        return [rollout async for rollout in collect(env, for_ever, concurrency=8)]

    gathering = asyncio.ensure_future(gather())
    for _ in range(10):
        await asyncio.sleep(0)
    assert env.opened == 8
    gathering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gathering
    assert env.closed == 8
    assert others_running() == 0


@pytest.mark.parametrize("after", [2, 9], ids=["at first", "later"])
async def test_tasks_that_cannot_be_drawn_leave_nothing_running(env, after):
    def draw():
        yield from tasks(after)
        raise ValueError("the file ends here")

    with pytest.raises(ValueError, match="the file ends here"):
        _ = [rollout async for rollout in collect(env, slowly, tasks=draw(), concurrency=5)]
    assert env.opened == env.closed
    assert others_running() == 0


async def test_an_environment_that_cannot_be_made_is_an_unscored_rollout(env):
    class Picky(env):
        def __init__(self, task):
            if task.answer % 2:
                raise ValueError("odd")
            super().__init__(task)

    rollouts = [rollout async for rollout in collect(Picky, ScriptedPolicy([]), tasks=tasks(10))]
    broken = [rollout for rollout in rollouts if rollout.reward is None]
    assert len(rollouts) == 10
    assert sorted(rollout.task.answer for rollout in broken) == [1, 3, 5, 7, 9]
    assert {(rollout.error.kind, rollout.error.message) for rollout in broken} == {("setup", "ValueError: odd")}
