import math
from fractions import Fraction

import pytest

from gym_core import Environment, EnvironmentFactory, EpisodeError, Rollout, Score, Task, tool


class Plain(Environment):
    def verify(self, rollout):
        return 1.0


class Named(Environment):
    name = "a-name"
    max_turns = 2


class OfNamed(Named):
    pass


TASK = Task([])


def test_an_environment_is_named_like_its_class_unless_the_class_says_otherwise():
    assert Plain.name == Plain(TASK).name == "Plain"
    assert Named.name == "a-name"
    assert OfNamed.name == "OfNamed"


def test_limits_and_tasks_have_defaults_a_class_may_change():
    assert (Plain.max_turns, Plain.tool_timeout_s, Plain.timeout_s, list(Plain.tasks)) == (16, 60.0, None, [])
    assert (Named.max_turns, OfNamed.max_turns) == (2, 2)


def test_an_environment_class_is_a_factory_and_its_instance_is_not():
    assert isinstance(Plain, EnvironmentFactory)
    assert not isinstance(Plain(TASK), EnvironmentFactory)
    assert not isinstance(Environment, EnvironmentFactory)


def test_an_instance_holds_its_task_and_its_own_tools():
    class Lamp(Environment):
        @tool
        def switch(self) -> str:
            """Switch it."""
            return "on"

    one, other = Lamp(TASK), Lamp(TASK)
    assert one.task is TASK
    assert one.done is False
    one.tools.clear()
    assert list(other.tools) == ["switch"]


def test_every_hook_but_verify_has_a_default():
    environment = Named(TASK)
    assert environment.setup() is None
    assert environment.respond({"role": "assistant", "content": ""}) is None
    assert environment.close() is None
    with pytest.raises(NotImplementedError, match="Named must implement verify"):
        environment.verify(Rollout(None, []))


def test_a_score_holds_floats():
    score = Score(True, {"format": 1, "length": Fraction(1, 2)})
    assert repr(score) == "Score(reward=1.0, components={'format': 1.0, 'length': 0.5})"
    assert Score(-3).reward == -3.0


def test_a_score_takes_numpy_numbers():
    numpy = pytest.importorskip("numpy")
    assert type(Score(numpy.float32(0.5)).reward) is float
    assert Score(numpy.int64(2), {"a": numpy.float64(1)}) == Score(2.0, {"a": 1.0})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "1", 1j, [1.0]], ids=repr)
def test_a_score_is_a_finite_number(value):
    with pytest.raises(EpisodeError) as raised:
        Score(value)
    assert str(raised.value) == f"'reward' of a score must be a finite number, not {value!r}"


def test_the_components_of_a_score_are_finite_numbers():
    with pytest.raises(EpisodeError, match="'format' of a score must be a finite number, not None"):
        Score(1.0, {"format": None})


def test_a_component_named_reward_does_not_hide_the_reward():
    with pytest.raises(EpisodeError, match="'reward' of a score must be a finite number, not nan"):
        Score(math.nan, {"reward": 1.0})
