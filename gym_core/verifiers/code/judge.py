"""The judge of tests written in Python: runs them in one process of a sandbox, and the solution in another.

The tests come on standard input. The process of the solution is forked before they are read, so that they are never in
its memory, and it holds no descriptor of the verdict. What tests import from `solution` are stand-ins that send their
arguments and get data back, so every comparison is made here. All of our modules are imported before the solution runs:
what it writes afterwards is never imported.
"""

import builtins
import ctypes
import json
import os
import signal
import socket
import sys
import types
from contextlib import suppress
from pathlib import Path
from typing import Any

from .host import serve  # relative, as the judge is handed to the sandbox under another name
from .remotes import Solution, SolutionEnded


class _Stand(types.ModuleType):
    """The module `solution` as tests see it."""

    @property
    def __all__(self) -> list[str]:
        """The names of `import *`: none that the test file has already bound, and no tests of the solution's own."""
        bound = sys._getframe(1).f_globals
        return [name for name in _public(self) if name not in bound and not name.lower().startswith("test")]


def main() -> None:
    """Judge, and write the verdict to standard output."""
    _guard_memory()
    ours, theirs = socket.socketpair()
    process = os.fork()
    if process == 0:
        ours.close()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # where the tests are
        os.dup2(2, 1)  # where the verdict goes
        serve(theirs.makefile("rw", encoding="utf-8"))
    theirs.close()
    verdict = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the tests print
    box = os.getcwd()
    os.chdir("/")
    sys.path[:] = [path for path in sys.path if path not in ("", box)]  # no modules that the solution wrote
    json.dump(_judge(process, Solution(ours.makefile("rw", encoding="utf-8"))), verdict)
    verdict.flush()


def _guard_memory() -> None:
    """Keep the solution, a process of the same user, from this one's memory and files where it sees a /proc."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE


def _judge(process: int, solution: Solution) -> dict[str, Any]:
    tests: list[dict[str, Any]] = []
    try:
        kind, names, _ = solution.receive()
        request = json.loads(sys.stdin.read())  # not before the solution has a process of its own
        if kind == "value" and isinstance(names, dict):
            module = _load(names)
            tests = _run_pytest(request["pytest"]) if "pytest" in request else _run_snippet(request["snippet"], module)
    except SolutionEnded:
        pass
    os.kill(process, signal.SIGKILL)  # too late to matter where it has ended
    _, status = os.waitpid(process, 0)
    return {"tests": tests, "out_of_cpu": os.waitstatus_to_exitcode(status) == -signal.SIGXCPU}


def _load(names: dict[Any, Any]) -> types.ModuleType:
    module = sys.modules["solution"] = _Stand("solution")
    for name, value in names.items():
        if isinstance(name, str) and not name.startswith("__"):
            setattr(module, name, value)
    return module


def _public(module: types.ModuleType) -> dict[str, Any]:
    """The names of the solution, without those that would take the place of Python's own."""
    return {
        name: value for name, value in vars(module).items() if not (name.startswith("_") or hasattr(builtins, name))
    }


def _run_snippet(test: str, solution: types.ModuleType) -> list[dict[str, Any]]:
    passed = False
    with suppress(BaseException):
        exec(compile(test, "test.py", "exec"), {"__name__": "__main__", **_public(solution)})
        passed = True
    return [{"test": "", "passed": passed}]


def _run_pytest(source: str) -> list[dict[str, Any]]:
    import pytest

    outcomes: dict[str, list[str]] = {}

    class Module(pytest.Module):
        def _getobj(self) -> types.ModuleType:
            module = sys.modules["test_solution"] = types.ModuleType("test_solution")
            exec(compile(source, "test_solution.py", "exec"), module.__dict__)
            return module

    class Plugin:
        def pytest_pycollect_makemodule(self, module_path: Path, parent: Any) -> Any:
            return Module.from_parent(parent, path=module_path)

        def pytest_runtest_logreport(self, report: Any) -> None:
            counted = "passed" if report.when == "call" and report.passed else "failed" if report.failed else ""
            outcomes.setdefault(report.nodeid.partition("::")[2], []).append(counted)

    # pytest wants a file to collect: one that nobody can write to, whose content the module above replaces. Settings
    # and conftest.py are not looked for, as the solution could have written them.
    options = ["-q", "--noconftest", "-c", os.devnull, "--rootdir", "/", "--capture", "no", "--assert", "plain"]
    options += ["-p", "no:cacheprovider", "-p", "no:faulthandler"]
    ended = pytest.main([*options, os.__file__], plugins=[Plugin()])
    if ended not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        outcomes["(all tests)"] = ["failed"]  # something stopped it before the last test
    return [
        {"test": name, "passed": "passed" in counted and "failed" not in counted} for name, counted in outcomes.items()
    ]
