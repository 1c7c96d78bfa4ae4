import pytest

from gym_core import Environment, Episode, Task, Tool, mix, system, tool, user
from gym_core.driving import Needs, needs, opened_episode


class Plain(Environment):
    tasks = [Task([user("?")])]

    def verify(self, rollout):
        return 1.0


class Shop(Plain):
    @tool
    def buy(self) -> str:
        """Buy it."""
        return "bought"


class Talk(Plain):
    async def respond(self, message):
        return None


class Opens(Plain):
    tasks = [Task([], answer=4)]

    def setup(self):
        return [user("What is 2+2?")]


class Holds(Plain):
    """Its setup only prepares its state."""

    def setup(self):
        self.seen = []


class Ranks(Plain):
    @classmethod
    def verify_group(cls, rollouts):
        return [1.0 for _ in rollouts]


class Grown(Plain):
    """Its tools come with its setup."""

    def setup(self):
        self.tools["look"] = Tool.from_schema({"name": "look"}, lambda: "nothing")


class Stand(Plain):
    """Stands for another environment, of which it implements all hooks."""

    def __init__(self, task):
        super().__init__(task)
        self.hooks = frozenset({"respond"})

    def setup(self):
        return None

    def respond(self, message):
        return None


class Unmade(Talk):
    def __init__(self, task):
        raise ImportError("no such library")


class Factory:
    """Opens environments, and is no class of them."""

    name = "factory"

    def __init__(self, env):
        self.env, self.tasks = env, env.tasks

    def __call__(self, task):
        return self.env(task)


ALL = [
    (Plain, Needs()),
    (Shop, Needs(tools=True)),
    (Talk, Needs(user_turns=True)),
    (Opens, Needs(opening=True)),
    (Holds, Needs()),
    (Ranks, Needs(group_verdicts=True)),
    (Stand, Needs(user_turns=True)),
]


@pytest.mark.parametrize(("env", "expected"), ALL, ids=[env.name for env, _ in ALL])
def test_needs_are_found_for_a_class_an_instance_a_factory_and_a_mix(env, expected):
    assert needs(env(env.tasks[0])) == needs(Factory(env)) == needs(mix([env])) == expected
    if env is not Stand:  # whose class can't know
        assert needs(env) == expected


def test_a_mix_needs_whatever_any_member_needs():
    assert needs(mix([Plain, Shop, Opens])) == Needs(tools=True, opening=True)
    assert needs(mix([Factory(Talk), Ranks])) == Needs(user_turns=True, group_verdicts=True)


def test_no_hook_runs_to_find_needs():
    class Touchy(Opens):
        def setup(self):
            raise AssertionError("setup ran")

    assert needs(Touchy) == Needs(opening=True)


def test_a_class_without_tasks_or_that_cannot_be_made_still_has_its_hooks():
    assert needs(type("NoTasks", (Talk,), {"tasks": ()})) == Needs(user_turns=True)
    assert needs(Unmade) == Needs(user_turns=True)
    assert needs(Factory(Unmade)) == Needs()


def test_an_open_episode_knows_what_setup_has_made():
    class Greets(Plain):
        def setup(self):
            return [system("Be brief."), *self.task.prompt]

    class Writes(Plain):
        def setup(self):
            self.task.prompt[0]["content"] += " Answer in digits."

    assert needs(Greets) == needs(Episode(Greets(Greets.tasks[0]))) == Needs()
    assert needs(opened_episode(Greets)) == Needs(opening=True)
    assert needs(opened_episode(Writes, Task([user("2+2?")]))) == Needs(opening=True)
    assert needs(opened_episode(Holds)) == Needs()
    assert (needs(Grown), needs(opened_episode(Grown))) == (Needs(), Needs(tools=True))
