"""What an answer could reach if it got past the grammar: nothing. The library's own scorers have no grammar."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gym_core import Environment, MissingDependencyError, Task, assistant, verify
from gym_core.environments import members
from gym_core.processes import isolation_problem

try:
    from gym_adapters.reasoning_gym import reasoning_gym
    from gym_adapters.reasoning_gym.grammar import EVALUATED
    from gym_adapters.reasoning_gym.plain import library
except MissingDependencyError:
    pytest.skip("needs reasoning-gym", allow_module_level=True)

ROOT = Path(__file__).parents[2]
UNSHARE = ["unshare", "--user", "--map-root-user"]

isolates = pytest.mark.skipif(isolation_problem("namespaces") is not None, reason="needs namespaces")


def plain(name: str, **options: Any) -> tuple[Callable[[Task], Environment], Task]:
    env = members(library([name], size=1, **options))[name]
    (task,) = env.tasks
    return env, task


async def reward(env: Callable[[Task], Environment], task: Task, answer: str) -> float | None:
    return (await verify(env(task), [*task.prompt, assistant(f"<answer>{answer}</answer>")])).reward


@isolates
@pytest.mark.slow
@pytest.mark.parametrize(
    ("condition", "earned"),
    [
        ("1 + 1 == 2", 0.1),
        ("'GYM_SECRET' in __import__('os').environ", 0.0),
        ("__import__('os').path.exists({secret!r})", 0.0),
        ("__import__('os').kill({pid}, 0) is None", 0.0),
        ("__import__('os').getppid() > 1", 0.0),
        ("__import__('socket').create_connection(('127.0.0.1', {port})) is not None", 0.0),
        ("open({written!r}, 'w').write('1')", 0.0),
    ],
)
async def test_an_evaluated_text_sees_nothing_of_the_trainer(
    condition: str, earned: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GYM_SECRET", "1")
    secret, written = tmp_path / "secret", tmp_path / "written"
    secret.write_text("1", encoding="utf-8")
    env, task = plain("binary_matrix")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        asked = condition.format(secret=str(secret), written=str(written), pid=os.getpid(), port=port)
        assert await reward(env, task, f"{task.info['entry']['metadata']['solution']} if {asked} else 0") == earned
    assert not written.exists()


@isolates
@pytest.mark.slow
async def test_an_evaluated_text_changes_no_later_verdict() -> None:
    env, task = plain("countdown")
    always = "import reasoning_gym.games.countdown as c; c.CountdownDataset.score_answer = lambda *_: 1.0"
    for _ in range(3):
        await reward(env, task, f'exec("{always}")')
        assert await reward(env, task, "no") == 0.01


@isolates
@pytest.mark.slow
async def test_a_text_that_kills_its_process_costs_its_own_verdict() -> None:
    env, task = plain("countdown")
    for text in ("__import__('os')._exit(0)", "__import__('os').kill(1, 9)", "__import__('ctypes').string_at(0)"):
        await reward(env, task, text)
        assert await reward(env, task, str(task.answer)) == 1.0


@pytest.mark.slow
async def test_isolation_none_scores_in_an_ordinary_process() -> None:
    env = reasoning_gym("countdown", size=1, isolation="none")
    (task,) = env.tasks
    assert await reward(env, task, str(task.answer)) == 1.0
    assert await reward(env, task, "__import__('os').system('true')") == 0.0
    env, task = plain("binary_matrix", isolation="none")
    asked = f"__import__('os').kill({os.getpid()}, 0) is None"
    assert await reward(env, task, f"{task.info['entry']['metadata']['solution']} if {asked} else 0") == 0.1


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0,
    reason="needs user namespaces, to forbid them in one",
)
def test_without_isolation_the_datasets_that_evaluate_are_refused_by_name() -> None:
    program = """
from reasoning_gym.factory import DATASETS
from gym_adapters.reasoning_gym import reasoning_gym
from gym_core.errors import EnvironmentSpecError
for name in DATASETS:
    try:
        name == "composite" or reasoning_gym(name)
    except EnvironmentSpecError as error:
        print(error)
        reasoning_gym(name, isolation="none")
"""
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    command = [*UNSHARE, "sh", "-c", forbid, "sh", sys.executable, "-c", program]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {sentence.split("'")[1] for sentence in found} == set(EVALUATED)
    assert all("can't be here" in sentence and "isolation='none'" in sentence for sentence in found)
