import asyncio
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gym_core import Environment, EpisodeError, PolicyError, Score, ScriptedPolicy, Task, rollout, user
from gym_core.verifiers import Rubric, number_match


def has_marker(completion: str, answer: object) -> float:
    return float("####" in completion)


def is_short(completion: str, answer: object) -> float:
    return 1.0 if len(completion) < 10 else 0.5


async def is_polite(completion: str, answer: object) -> float:
    await asyncio.sleep(0)
    return float("please" in completion)


CORRECT = partial(number_match, after="####")


async def test_a_score_is_the_weighted_mean_of_its_components():
    rubric = Rubric({"correct": CORRECT, "short": is_short}, weights={"correct": 3, "short": 1})
    assert await rubric("#### 42", "42") == Score(1.0, {"correct": 1.0, "short": 1.0})
    assert await rubric("it must be #### 42", "42") == Score(0.875, {"correct": 1.0, "short": 0.5})
    assert await rubric("it must be #### 41", "42") == Score(0.125, {"correct": 0.0, "short": 0.5})


async def test_without_weights_all_verifiers_weigh_alike():
    rubric = Rubric({"correct": CORRECT, "polite": is_polite})
    assert await rubric("#### 42", "42") == Score(0.5, {"correct": 1.0, "polite": 0.0})


async def test_a_failed_gate_leaves_no_reward_and_only_sync_components():
    rubric = Rubric({"short": is_short, "polite": is_polite}, gates={"format": has_marker})
    assert await rubric("please", None) == Score(0.0, {"format": 0.0, "short": 1.0})
    assert await rubric("#### please", None) == Score(0.75, {"format": 1.0, "short": 0.5, "polite": 1.0})


async def test_a_gate_may_be_async_and_half_is_not_enough():
    rubric = Rubric({"correct": CORRECT}, gates={"polite": is_polite, "short": is_short})
    assert (await rubric("please #### 42", "42")).reward == 0.0
    assert (await rubric("please", "42")).components == {"polite": 1.0, "short": 1.0, "correct": 0.0}


async def test_async_verifiers_run_at_the_same_time():
    barrier = asyncio.Barrier(2)

    async def meets(completion: str, answer: object) -> float:
        await barrier.wait()
        return 1.0

    async with asyncio.timeout(5):
        assert (await Rubric({"one": meets, "two": meets})("x", None)).reward == 1.0


async def test_an_exception_of_a_verifier_is_raised_and_ends_the_others():
    ended = []

    async def fails(completion: str, answer: object) -> float:
        raise PolicyError("the judge is out")

    async def waits(completion: str, answer: object) -> float:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)
        return 1.0

    with pytest.raises(PolicyError, match="the judge is out"):
        await Rubric({"slow": waits, "judge": fails})("x", None)
    assert ended == [True]


async def test_a_sync_verifier_that_raises_leaves_nothing_unawaited():
    def fails(completion: str, answer: object) -> float:
        raise ValueError("a number_match answer must be a number")

    with pytest.raises(ValueError, match="must be a number"):
        await Rubric({"polite": is_polite, "correct": fails})("x", None)


async def test_a_component_is_a_number():
    with pytest.raises(EpisodeError, match="'broken' of a score must be a finite number, not None"):
        await Rubric({"broken": lambda completion, answer: None})("x", None)


async def test_an_environment_returns_the_score_of_a_rubric():
    class Sum(Environment):
        async def verify(self, rollout):
            return await Rubric({"correct": CORRECT}, gates={"format": has_marker})(
                rollout.last_reply, self.task.answer
            )

    played = await rollout(Sum(Task([user("40+2?")], answer="42")), ScriptedPolicy(["#### 42"]))
    assert (played.reward, played.components) == (1.0, {"format": 1.0, "correct": 1.0})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"verifiers": {}}, "a rubric must have one verifier or more, not none"),
        (
            {"verifiers": {"a": is_short}, "gates": {"a": is_short}},
            "a name of a rubric must be a verifier or a gate, not both: a",
        ),
        (
            {"verifiers": {"a": is_short, "b": is_short}, "weights": {"a": 1, "c": 1}},
            "the weights of a rubric must be for a, b, not for a, c",
        ),
        ({"verifiers": {"a": is_short}, "weights": {"a": 0}}, "the weight of 'a' must be a positive number, not 0"),
        (
            {"verifiers": {"a": is_short}, "weights": {"a": float("nan")}},
            "the weight of 'a' must be a positive number, not nan",
        ),
        ({"verifiers": {"a": is_short}, "weights": {"a": "1"}}, "the weight of 'a' must be a positive number, not '1'"),
    ],
)
def test_a_mistake_of_the_author_is_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        Rubric(**options)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.001, 1000)), min_size=1, max_size=8))
def test_the_reward_lies_between_the_components(parts):
    values = {str(i): value for i, (value, _) in enumerate(parts)}
    rubric = Rubric(
        {name: partial(lambda value, completion, answer: value, value) for name, value in values.items()},
        weights={str(i): weight for i, (_, weight) in enumerate(parts)},
    )
    score = asyncio.run(rubric("x", None))
    assert min(values.values()) - 1e-9 <= score.reward <= max(values.values()) + 1e-9
    if set(values.values()) == {1.0}:
        assert score.reward == 1.0
