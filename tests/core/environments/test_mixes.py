import itertools
import math
import pickle
import sys
import textwrap
from collections import Counter
from dataclasses import dataclass

import pytest

from gym_core import Environment, EnvironmentSpecError, Task, load_environment, mix, user
from gym_core.environments import as_environment, members


@dataclass(frozen=True)
class Numbers:
    """Tasks 0, 1, 2, ...; without end where there is no count."""

    count: int | None = None

    def __iter__(self):
        for number in itertools.count() if self.count is None else range(self.count):
            yield Task([user(str(number))], answer=number)


class Sums(Environment):
    tasks = Numbers()


class Words(Environment):
    tasks = Numbers()


class Three(Environment):
    tasks = Numbers(3)


class Five(Environment):
    tasks = Numbers(5)


def names(env, count: int | None = None) -> list[str]:
    return [task.environment for task in itertools.islice(env.tasks, count)]


# load_environment

MODULE = """
    from gym_core import Environment, Task

    class Echo(Environment):
        tasks = (Task([]),)

    class Sized:
        def __init__(self, size): self.name, self.tasks = f"sized-{size}", [Task([])] * size
        def __call__(self, task): return Echo(task)

    opened = Sized(2)
    number = 3

    def make(size=1): return Sized(size)
    def wrong(): return 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch) -> str:
    (tmp_path / "gym_test_package").mkdir()
    (tmp_path / "gym_test_package" / "envs.py").write_text(textwrap.dedent(MODULE))
    (tmp_path / "gym_test_package" / "needy.py").write_text("import no_such_library")
    monkeypatch.syspath_prepend(tmp_path)
    yield "gym_test_package"
    for name in [name for name in sys.modules if name.startswith("gym_test_package")]:
        del sys.modules[name]


def test_an_environment_is_found_by_name(module):
    echo = load_environment(f"{module}.envs:Echo")
    assert echo.name == "Echo"
    assert echo is sys.modules[f"{module}.envs"].Echo
    assert load_environment(f"{module}.envs:opened").name == "sized-2"


def test_a_function_is_called_with_the_arguments(module):
    assert load_environment(f"{module}.envs:make").name == "sized-1"
    assert load_environment(f"{module}.envs:make", size=7).name == "sized-7"
    assert len(load_environment(f"{module}.envs:Sized", size=4).tasks) == 4


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("Echo", "an environment is named 'package.module:name', not 'Echo'"),
        (":Echo", "an environment is named 'package.module:name', not ':Echo'"),
        ("gym_test_package.envs:", "an environment is named 'package.module:name', not 'gym_test_package.envs:'"),
        ("", "an environment is named 'package.module:name', not ''"),
        ("nowhere.envs:Echo", "there is no module 'nowhere.envs', named by 'nowhere.envs:Echo'"),
        (
            "gym_test_package.nowhere:Echo",
            "there is no module 'gym_test_package.nowhere', named by 'gym_test_package.nowhere:Echo'",
        ),
        (
            "gym_test_package.envs:Ecko",
            "module 'gym_test_package.envs' has no 'Ecko', named by 'gym_test_package.envs:Ecko'",
        ),
        (
            "gym_test_package.envs:number",
            "'gym_test_package.envs:number' must be an environment or a function that returns one, not 3",
        ),
        (
            "gym_test_package.envs:wrong",
            "'gym_test_package.envs:wrong' must be an environment or a function that returns one, not 3",
        ),
    ],
)
def test_an_unknown_environment_is_explained(module, spec, sentence):
    with pytest.raises(EnvironmentSpecError) as raised:
        load_environment(spec)
    assert str(raised.value) == sentence


def test_an_environment_class_takes_no_arguments(module):
    with pytest.raises(EnvironmentSpecError) as raised:
        load_environment(f"{module}.envs:Echo", size=3)
    assert str(raised.value) == f"'{module}.envs:Echo' is not a function, it takes no arguments like 'size'"


def test_a_missing_dependency_of_the_module_is_not_hidden(module):
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        load_environment(f"{module}.needy:Echo")


# mix


def test_weights_are_proportions():
    drawn = Counter(names(mix({Sums: 3, Words: 1}), 10_000))
    assert drawn["Sums"] == pytest.approx(7500, abs=150)
    assert drawn["Sums"] + drawn["Words"] == 10_000


def test_each_environment_gives_its_tasks_in_order():
    tasks = list(itertools.islice(mix({Sums: 1, Words: 2}).tasks, 100))
    for name in ("Sums", "Words"):
        own = [task.answer for task in tasks if task.environment == name]
        assert own == list(range(len(own)))


def test_the_order_is_that_of_the_seed():
    order = names(mix({Sums: 1, Words: 1}, seed=1), 50)
    assert order == names(mix({Sums: 1, Words: 1}, seed=1), 50)
    assert order != names(mix({Sums: 1, Words: 1}, seed=2), 50)
    env = mix({Sums: 1, Words: 1}, seed=1)
    assert names(env, 50) == names(env, 50)


def test_a_weighted_mix_ends_with_the_first_environment_that_has_no_task_left():
    drawn = names(mix({Three: 1, Sums: 1}))
    assert drawn.count("Three") == 3
    assert len(drawn) < 30


def test_a_list_plays_one_environment_after_the_other():
    assert names(mix([Three, Five])) == ["Three"] * 3 + ["Five"] * 5


def test_a_mix_is_named_after_its_environments():
    assert mix([Three, Five]).name == "Three+Five"
    assert members(mix([Three, Five])) == {"Three": Three, "Five": Five}
    assert members(Three) == {"Three": Three}


def test_a_task_opens_its_own_environment():
    env = mix([Three, Five])
    assert [type(env(task)) for task in env.tasks] == [Three] * 3 + [Five] * 5
    assert env(Task([], environment="Five")).task.environment == "Five"


def test_a_task_of_no_environment_of_the_mix_is_refused():
    with pytest.raises(EnvironmentSpecError) as raised:
        mix([Three, Five])(Task([], id="t1", environment="Four"))
    assert str(raised.value) == "task t1 is for environment 'Four', the mix has Three, Five"


def test_a_mix_survives_a_pickle():
    env = pickle.loads(pickle.dumps(mix({Three: 1, Five: 2}, seed=4)))
    assert names(env) == names(mix({Three: 1, Five: 2}, seed=4))


class OtherThree(Environment):
    name = "Three"


@pytest.mark.parametrize(
    ("environments", "sentence"),
    [
        ([], "a mix needs at least one environment, got none"),
        ({}, "a mix needs at least one environment, got none"),
        ([Three, OtherThree], "two environments of the mix are named 'Three'; rename one of them"),
        ([Three, Three], "two environments of the mix are named 'Three'; rename one of them"),
        (["Three"], "a mix is made of environments, not 'Three'"),
        ([mix([Three]), Five], "a mix can't contain the mix 'Three'; pass all environments to one mix"),
        ({Three: 0}, "the weight of 'Three' must be a positive number, not 0"),
        ({Three: -1.5}, "the weight of 'Three' must be a positive number, not -1.5"),
        ({Three: math.nan}, "the weight of 'Three' must be a positive number, not nan"),
        ({Three: math.inf}, "the weight of 'Three' must be a positive number, not inf"),
        ({Three: "1"}, "the weight of 'Three' must be a positive number, not '1'"),
    ],
)
def test_a_wrong_mix_is_explained(environments, sentence):
    with pytest.raises(EnvironmentSpecError) as raised:
        mix(environments)
    assert str(raised.value) == sentence


# as_environment


def test_one_environment_stays_itself_and_a_list_becomes_a_mix():
    env = mix([Three, Five])
    assert as_environment(Three) is Three
    assert as_environment(env) is env
    assert as_environment((Three, Five)) == env


@pytest.mark.parametrize(
    ("wrong", "cure"),
    [
        ("m:Three", "; load_environment finds one by its name"),
        (3, ""),
        (None, ""),
        (Three(Task([])), ", which plays one episode; pass Three itself"),
    ],
    ids=["text", "number", "None", "instance"],
)
def test_anything_else_is_refused(wrong, cure):
    with pytest.raises(EnvironmentSpecError) as raised:
        as_environment(wrong)
    assert str(raised.value) == f"expected an environment or a list of them, not {wrong!r}{cure}"
