"""The verifier of code: model-written Python against calls, stdin/stdout cases, asserts or a pytest file."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from gym_core.environments import Score
from gym_core.processes import Limit, Ran, Sandbox, shared_sandbox
from gym_core.verifiers.code.comparison import is_expected
from gym_core.verifiers.code.values import to_json

_OPENING = re.compile(r"(?P<fence>`{3,}+|~{3,}+)[ \t]*+(?P<language>[\w+-]*+)[^`]*+")
_LANGUAGES = ("python", "py", "python3")
_PROGRAMS = ("call", "host", "judge", "remotes", "values")
"""Modules of this room that a run is given as files, in a package of another name, which the run can import."""

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

    The code is the last block fenced as `python`, or else the whole completion. It runs in a sandbox, once per test,
    and hands back only data: what it printed, or what its functions returned. Every comparison is made where the code
    can't reach it: calls and cases are compared outside the sandbox; asserts and pytest files run in a process of the
    sandbox that never executes the code and only sends calls to it. A name that a test file has bound before its `from
    solution import *`, by an import or otherwise, is not replaced. An exception or a limit fails the test.

    The components are `passed`, the share of tests that passed; `limits`, the share that met a limit; and each test
    under its name, which is its number from 1 or its name in pytest.

    Args:
        completion: Text that the policy wrote.
        answer: Tests, all of one kind. `calls`: a list of objects with `function` (an expression such as `add` or
            `Solution().add`), `args`, `kwargs` and `expected`; floats match up to 1e-9, and tuples match lists.
            `cases`: a list of objects with `stdin` and `stdout`; white space at the end of lines does not count.
            `asserts`: a list of Python snippets that use the code's names, with an optional `setup` that precedes each.
            `pytest`: the source of a test file that imports from `solution`; it needs a sandbox that has imported
            pytest.
        sandbox: Sandbox for the code; the default is shared by this process and has imported no packages.
        cpu_s: CPU seconds per test, or for a whole pytest file.
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
    ran = await _run_program(run, "call", code, to_json(request))
    return [_Verdict(ran.ok and await is_expected(ran.stdout, test["expected"]), ran.limit)]


async def _judge_case(run: _Run, code: str, test: Mapping[str, Any]) -> list[_Verdict]:
    ran = await run(code, stdin=test["stdin"])
    return [_Verdict(ran.ok and _lines(ran.stdout) == _lines(test["stdout"]), ran.limit)]


async def _judge_assert(run: _Run, code: str, test: str) -> list[_Verdict]:
    return await _ask_judge(run, code, {"snippet": test}) or [_Verdict(False)]


async def _judge_pytest(run: _Run, code: str, test: str) -> list[_Verdict]:
    return await _ask_judge(run, code, {"pytest": test})


async def _ask_judge(run: _Run, code: str, request: Mapping[str, str]) -> list[_Verdict]:
    ran = await _run_program(run, "judge", code, json.dumps(request))
    if not ran.ok:
        return [_Verdict(False, ran.limit)]
    verdict = json.loads(ran.stdout)
    limit: Limit | None = "cpu" if verdict["out_of_cpu"] else None
    return [_Verdict(test["passed"], None if test["passed"] else limit, test["test"]) for test in verdict["tests"]]


def _run_program(run: _Run, program: str, code: str, stdin: str) -> Awaitable[Ran]:
    start = f"from gym_judge.{program} import main\n\nmain()\n"
    return run(start, stdin=stdin, files={**_program_files(), "solution.py": code})


@lru_cache
def _program_files() -> dict[str, str]:
    folder = Path(__file__).parent
    return {f"gym_judge/{name}.py": (folder / f"{name}.py").read_text(encoding="utf-8") for name in _PROGRAMS}


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


_JUDGES: dict[str, Callable[[_Run, str, Any], Awaitable[list[_Verdict]]]] = {
    "calls": _judge_call,
    "cases": _judge_case,
    "asserts": _judge_assert,
    "pytest": _judge_pytest,
}
