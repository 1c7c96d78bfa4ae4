import random

import pytest

from gym_core import Environment, Task, Tool, assistant, system, tool, tool_call, user
from gym_core.audit.check import check_environment
from gym_core.verifiers import number_match


class Sums(Environment):
    """Right in every way."""

    tasks = [Task([system("End with ####."), user(f"{i}+{i}")], answer=2 * i, id=f"sum-{i}") for i in range(1, 5)]

    def verify(self, rollout):
        return number_match(rollout.last_reply, self.task.answer, after="####")


async def problems(cls, **options):
    return await check_environment(cls, **options)


async def test_a_good_environment_has_no_problem():
    assert await problems(Sums) == []


async def test_only_the_first_tasks_are_played():
    class Broken(Sums):
        """Its last task breaks."""

        def setup(self):
            if self.task.id == "sum-4":
                raise RuntimeError("no more")

    assert await problems(Broken, limit=3) == []
    assert await problems(Broken) == ["task sum-4: it broke on an empty reply, in setup: RuntimeError: no more"]


async def test_no_tasks_is_a_problem():
    class Empty(Sums):
        """Nothing to play."""

        tasks = []

    assert await problems(Empty) == ["environment 'Empty' has no tasks"]


async def test_tasks_must_be_the_same_again_unique_and_json():
    class Odd(Sums):
        """Its tasks are drawn, share an id, and hold tuples."""

        tasks = (Task([user(str(random.random()))], answer=(1, 2), id="same") for _ in range(9))

        def verify(self, rollout):
            return 0.5 if rollout.last_reply == "[1, 2]" else 0.0

    found = await problems(Odd, limit=2)
    assert "tasks gives other tasks when it is iterated again, expected the same ones" in found
    assert "task same: its id is not unique" in found
    assert "task same: it changes on its way through JSON; use lists, not tuples, and string keys" in found


@pytest.mark.parametrize(
    ("reply", "name"),
    [("", "an empty reply"), ("1+1", "the repeated prompt"), ("Answer: 8", "a list of all answers")],
)
async def test_junk_that_scores_like_the_gold_reply_is_a_problem(reply, name):
    class Generous(Sums):
        """Takes one kind of junk."""

        def verify(self, rollout):
            return max(super().verify(rollout), float(rollout.last_reply.endswith(reply) if reply else True))

    assert f"task sum-1: {name} scores 1.0, as much as the gold reply (1.0)" in await problems(Generous)


async def test_a_verifier_that_cannot_make_up_its_mind_is_a_problem():
    verdicts = iter([0.0, 0.0, 0.0, 0.5, 0.0, 0.0])

    class Moody(Sums):
        """Gives another score to the same reply."""

        tasks = [Task([user("?")], id="only")]

        def verify(self, rollout):
            return next(verdicts)

    found = await problems(Moody)
    assert found == ["task only: verify gave 0.0 and then 0.5 for the same reply, expected the same score"]


class Switch(Environment):
    """On or off, by a tool; the gold reply is in the task."""

    tasks = [
        Task([user("on, please")], id="on", info={"gold": [assistant(tool_calls=[tool_call("turn_on")]), "Done."]})
    ]

    def setup(self):
        self.on = False

    @tool
    def turn_on(self) -> str:
        """Turn it on."""
        self.on = True
        return "on"

    def verify(self, rollout):
        return float(self.on)


async def test_a_gold_reply_may_call_tools():
    assert await problems(Switch) == []

    class AlwaysOn(Switch):
        """Is on from the start."""

        def setup(self):
            self.on = True

    assert "task on: an empty reply scores 1.0, as much as the gold reply (1.0)" in await problems(AlwaysOn)


async def test_a_gold_reply_that_breaks_is_a_problem():
    class Fused(Switch):
        """Its tool is broken."""

        @tool
        def turn_on(self) -> str:
            """Turn it on."""
            raise RuntimeError("no power")

    assert await problems(Fused) == ["task on: its gold reply has no reward"]


async def test_tool_names_must_be_what_servers_accept():
    class Dotted(Switch):
        """Has a tool with a name of its own."""

        def setup(self):
            super().setup()
            self.tools["a.b"] = Tool.from_schema({"name": "a.b"}, lambda: "")

    assert await problems(Dotted) == ["task on: tool 'a.b' needs a name of letters, digits, '_' and '-', 64 at most"]
