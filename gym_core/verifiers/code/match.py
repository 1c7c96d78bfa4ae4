"""The verifier of code: model-written Python against calls, stdin/stdout cases, asserts or a pytest file."""

import asyncio
import json
import math
import re
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gym_core.environments import Score
from gym_core.processes import Limit, Ran, Sandbox, shared_sandbox
from gym_core.verifiers.code import judge, values

_OPENING = re.compile(r"(?P<fence>`{3,}|~{3,})[ \t]*(?P<language>[\w+-]*)[^`]*")
_LANGUAGES = ("python", "py", "python3")
_TOLERANCE = 1e-9
_CPU_SIGNAL = -signal.SIGXCPU
_VALUES = Path(values.__file__).read_text(encoding="utf-8")
_JUDGE = _VALUES + Path(judge.__file__).read_text(encoding="utf-8").replace(
    "from gym_core.verifiers.code.values import from_json, to_json\n", ""
)
_CALL = (
    _VALUES
    + """
def _call():
    import os, sys
    request = from_json(sys.stdin.read())
    answer = os.dup(1)
    os.dup2(2, 1)
    solution = {"__name__": "solution"}
    exec(compile(open("solution.py", encoding="utf-8").read(), "solution.py", "exec"), solution)
    line = to_json(eval(request["function"], solution)(*request["args"], **request["kwargs"]))
    os.write(answer, line.encode())

_call()
"""
)


_Run = Callable[..., Awaitable[Ran]]


@dataclass(frozen=True)
class _Verdict:
    passed: bool
    limit: Limit | None = None
    name: str = ""


async def code_match(
    completion: str,
    answer: Mapping[str, Any],
    *,
    sandbox: Sandbox | None = None,
    cpu_s: float = 5.0,
    wall_s: float = 60.0,
    memory_bytes: int = 512 << 20,
) -> Score:
    """Scores 1.0 when the completion's Python passes every test.

    The code is the last block fenced as `python`, or else the whole completion. It runs in a sandbox, once a test, and
    hands back data only: what it printed, or what its functions returned. Each comparison is made where the code has no
    way to: that of calls and cases in this process; that of asserts and pytest in a process of the sandbox in which the
    code never runs, and which calls its functions from there. An exception and a limit met fail the test.

    The components are `passed`, the share of tests that did; `limits`, the share that met one; and each test by its
    name, which is its number from 1 or its name in pytest.

    Args:
        completion: What the policy wrote.
        answer: The tests, of one kind. `calls`: a list of objects with `function` (an expression such as `add` or
            `Solution().add`), `args`, `kwargs` and `expected`; floats match up to 1e-9, tuples match lists. `cases`: a
            list of objects with `stdin` and `stdout`; white space at the end of lines does not count. `asserts`: a list
            of Python snippets that use the code's names, and `setup`, what is put before each. `pytest`: the source of
            a test file that imports from `solution`; it needs a sandbox that has imported pytest.
        sandbox: Where the code runs; the default is shared by this process and has imported no package.
        cpu_s: CPU seconds for each test, or for the whole of a pytest file.
        wall_s: Wall seconds for the same.
        memory_bytes: Memory for the same.

    Raises:
        ValueError: The answer is not of one kind, or has no tests.
        WorkerLostError: The sandbox lost a run, or the machine is too slow.
    """
    kind, tests = _tests(answer)
    code = _stated_code(completion)
    if not code.strip():
        return Score(0.0, {"passed": 0.0, "limits": 0.0})
    if sandbox is None:
        sandbox = shared_sandbox(["pytest"] if kind == "pytest" else [])
    if kind == "pytest" and "pytest" not in sandbox.modules:
        raise ValueError("pytest tests need a sandbox that has imported pytest, such as Sandbox(['pytest'])")
    run = partial(sandbox.run, cpu_s=cpu_s, wall_s=wall_s, memory_bytes=memory_bytes)
    running = [asyncio.ensure_future(_JUDGES[kind](run, code, test)) for test in tests]
    try:
        verdicts = [verdict for some in await asyncio.gather(*running) for verdict in some]
    finally:
        for future in running:
            future.cancel()
    named = {verdict.name or str(number): float(verdict.passed) for number, verdict in enumerate(verdicts, start=1)}
    count = len(verdicts) or 1
    passed, limits = sum(named.values()) / count, sum(verdict.limit is not None for verdict in verdicts) / count
    return Score(float(passed == 1.0), {"passed": passed, "limits": limits, **named})


def _tests(answer: Mapping[str, Any]) -> tuple[str, Sequence[Any]]:
    kinds = [kind for kind in _JUDGES if kind in answer]
    if len(kinds) != 1 or answer.keys() - {*kinds, "setup"}:
        raise ValueError(f"a code_match answer must have one of {list(_JUDGES)}, not {list(answer)}")
    kind = kinds[0]
    tests = [answer[kind]] if kind == "pytest" else answer[kind]
    if kind == "asserts":
        setup = answer.get("setup", "")
        tests = [f"{setup}\n{test}" for test in tests]
    if not tests or not all(tests):
        raise ValueError(f"a code_match answer must have one test or more, and none that is empty, not {answer!r}")
    if kind in ("asserts", "pytest"):
        for test in tests:
            _check_python(test)
    return kind, tests


def _check_python(test: str) -> None:
    try:
        compile(test, "test", "exec")
    except SyntaxError as error:
        raise ValueError(f"a code_match test must be Python, not {test!r}: {error}") from error


def _stated_code(completion: str) -> str:
    """The last closed block fenced as Python, or else the whole completion."""
    code, block, fence, is_python = None, list[str](), "", False
    for line in completion.split("\n"):
        opening = None if fence else _OPENING.fullmatch(line.strip())
        if opening:
            fence, is_python, block = opening["fence"], opening["language"].lower() in _LANGUAGES, []
        elif fence and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            code, fence = "\n".join(block) if is_python else code, ""
        else:
            block.append(line)
    return completion if code is None else code


async def _judge_call(run: _Run, code: str, test: Mapping[str, Any]) -> list[_Verdict]:
    request = {"function": test["function"], "args": test.get("args", []), "kwargs": test.get("kwargs", {})}
    ran = await run(_CALL, stdin=values.to_json(request), files={"solution.py": code})
    try:
        passed = ran.ok and _same(values.from_json(ran.stdout), test["expected"])
    except (ValueError, RecursionError):
        passed = False
    return [_Verdict(passed, ran.limit)]


async def _judge_case(run: _Run, code: str, test: Mapping[str, Any]) -> list[_Verdict]:
    ran = await run(code, stdin=test["stdin"])
    return [_Verdict(ran.ok and _lines(ran.stdout) == _lines(test["stdout"]), ran.limit)]


async def _judge_assert(run: _Run, code: str, test: str) -> list[_Verdict]:
    return await _ask_judge(run, code, {"snippet": test}) or [_Verdict(False)]


async def _judge_pytest(run: _Run, code: str, test: str) -> list[_Verdict]:
    return await _ask_judge(run, code, {"pytest": test})


async def _ask_judge(run: _Run, code: str, request: Mapping[str, str]) -> list[_Verdict]:
    ran = await run(_JUDGE, stdin=json.dumps(request), files={"solution.py": code})
    if not ran.ok:
        return [_Verdict(False, ran.limit)]
    verdict = json.loads(ran.stdout)
    limit: Limit | None = "cpu" if verdict["ended"] == _CPU_SIGNAL else None
    return [_Verdict(test["passed"], None if test["passed"] else limit, test["test"]) for test in verdict["tests"]]


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _same(found: Any, expected: Any) -> bool:
    if isinstance(expected, list | tuple):
        is_list = isinstance(found, list | tuple) and len(found) == len(expected)
        return is_list and all(_same(*pair) for pair in zip(found, expected, strict=True))
    if isinstance(expected, dict):
        is_dict = isinstance(found, dict) and found.keys() == expected.keys()
        return is_dict and all(_same(found[key], value) for key, value in expected.items())
    if isinstance(expected, float) or (isinstance(found, float) and isinstance(expected, int)):
        return isinstance(found, int | float) and _is_close(found, expected)
    return bool(found == expected)


def _is_close(found: float, expected: float) -> bool:
    try:
        return found == expected or math.isclose(found, expected, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    except OverflowError:  # an integer too large for a float
        return False


_JUDGES: dict[str, Callable[[_Run, str, Any], Awaitable[list[_Verdict]]]] = {
    "calls": _judge_call,
    "cases": _judge_case,
    "asserts": _judge_assert,
    "pytest": _judge_pytest,
}
