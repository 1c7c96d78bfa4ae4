"""The judge of tests written in Python: runs them in one process of a run, and the solution in another.

This source is the program of the run, after that of `values`; the solution is in the file `solution.py` and the tests
come on standard input. The process of the solution is forked before the tests are read, so that they are never in its
memory, and it has no descriptor of the verdict. The functions that tests import from `solution` are stand-ins: they
send their arguments, and only data comes back, so that every comparison is made here.
"""

import builtins
import json
import os
import signal
import socket
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from gym_core.verifiers.code.values import from_json, to_json

_MESSAGE_BYTES = 16 << 20


class SolutionEnded(BaseException):
    """The process of the solution has ended; no test can expect that, so it is not an Exception."""


class Remote:
    """An object of the solution that is not data: its methods can be called, and it equals only itself."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _ask(self._number, None, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "pytestmark":
            raise AttributeError(name)  # an object must not pass for a fixture or a test
        return _ask(self._number, "__getattribute__", (name,), {})

    def __getitem__(self, key: Any) -> Any:
        return _ask(self._number, "__getitem__", (key,), {})

    def __setitem__(self, key: Any, value: Any) -> None:
        _ask(self._number, "__setitem__", (key, value), {})

    def __contains__(self, item: Any) -> bool:
        return item in iter(self)  # or it would claim to contain whatever it is asked for

    def __len__(self) -> int:
        return int(_ask(self._number, "__len__", (), {}))

    def __iter__(self) -> Iterator[Any]:
        return iter(list(_ask(self._number, "__iter__", (), {})))

    def __next__(self) -> Any:
        return _ask(self._number, "__next__", (), {})

    def __str__(self) -> str:
        return str(_ask(self._number, "__str__", (), {}))


def _remote_number(value: Any) -> int:
    if isinstance(value, Remote):
        return value._number
    raise TypeError(f"a test can pass data to the solution, not {type(value).__name__}")


def _ask(number: int, method: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Have the solution call an object, or a method of it; what it has changed in lists and dicts is changed here."""
    _channel.write(to_json([number, method, args, kwargs], _remote_number) + "\n")
    _channel.flush()
    kind, value, changed = _receive()
    for ours, theirs in zip(args, changed, strict=False):
        if type(ours) is type(theirs) and isinstance(ours, list | bytearray):
            ours[:] = theirs
        elif type(ours) is type(theirs) and isinstance(ours, dict | set):
            ours.clear()
            ours.update(theirs)
    if kind == "error":
        names, text = value
        known = [getattr(builtins, name, None) for name in names]
        kinds = [kind for kind in known if isinstance(kind, type) and issubclass(kind, Exception)]
        raise (kinds or [RuntimeError])[0](text)
    return value


def _receive() -> Any:
    line = _channel.readline(_MESSAGE_BYTES)
    if not line.endswith("\n"):
        raise SolutionEnded
    try:
        kind, value, changed = from_json(line, Remote)
    except (ValueError, RecursionError) as error:
        raise SolutionEnded from error
    return kind, value, changed


def _serve() -> NoReturn:
    """Live as the process of the solution."""
    objects: list[Any] = []

    def keep(value: Any) -> int:
        objects.append(value)
        return len(objects) - 1

    def answer(make: Callable[[], tuple[Any, Any]]) -> None:
        try:
            value, args = make()
            line = to_json(["value", value, args], keep)
        except Exception as error:
            names = [kind.__name__ for kind in type(error).__mro__]
            line = to_json(["error", [names, str(error)[:1000]], []])
        _channel.write(line + "\n")
        _channel.flush()

    def load() -> tuple[Any, Any]:
        module = sys.modules["solution"] = types.ModuleType("solution")
        exec(compile(Path("solution.py").read_text(encoding="utf-8"), "solution.py", "exec"), module.__dict__)
        public = {name: value for name, value in vars(module).items() if not name.startswith("__")}
        return {name: value for name, value in public.items() if not isinstance(value, types.ModuleType)}, []

    def call(line: str) -> tuple[Any, Any]:
        number, method, args, kwargs = from_json(line, objects.__getitem__)
        target = objects[number]
        function = target if method is None else getattr(target, method)
        value = function(*args, **kwargs)
        return list(value) if method == "__iter__" else value, [*args]

    answer(load)
    while line := _channel.readline():
        answer(lambda line=line: call(line))  # type: ignore[misc]  # mypy infers no lambda with defaults
    os._exit(0)


def _run_snippet(test: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    verdict = {"test": "", "passed": False, "error": ""}
    try:
        exec(compile(test, "test.py", "exec"), {"__name__": "__main__", **names})
        verdict["passed"] = True
    except BaseException as error:
        verdict["error"] = f"{type(error).__name__}: {error}"[:300]
    return [verdict]


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
    pytest.main([*options, os.__file__], plugins=[Plugin()])
    return [
        {"test": name, "passed": "passed" in counted and "failed" not in counted, "error": ""}
        for name, counted in outcomes.items()
    ]


def _load(names: Any) -> dict[str, Any]:
    """Make the module `solution` of stand-ins; its names, without those that would take the place of Python's own."""
    module = sys.modules["solution"] = types.ModuleType("solution")
    for name, value in names.items():
        if isinstance(name, str) and not name.startswith("__"):
            setattr(module, name, value)
    public = {
        name: value for name, value in vars(module).items() if not name.startswith("_") and not hasattr(builtins, name)
    }
    # `import *` must not bring tests of the solution's own.
    module.__dict__["__all__"] = [name for name in public if not name.lower().startswith("test")]
    return public


def _judge(solution: int) -> dict[str, Any]:
    loaded, tests = False, []
    try:
        kind, names, _ = _receive()
        request = json.loads(sys.stdin.read())  # not before the solution has its own process
        if kind == "value" and isinstance(names, dict):
            loaded, public = True, _load(names)
            tests = _run_pytest(request["pytest"]) if "pytest" in request else _run_snippet(request["snippet"], public)
    except SolutionEnded:
        pass
    os.kill(solution, signal.SIGKILL)  # too late to matter where it has ended
    _, status = os.waitpid(solution, 0)
    return {"loaded": loaded, "tests": tests, "ended": os.waitstatus_to_exitcode(status)}


def main() -> None:
    """Judge, and write the verdict to standard output."""
    global _channel
    ours, theirs = socket.socketpair()
    solution = os.fork()
    if solution == 0:
        ours.close()
        _channel = theirs.makefile("rw", encoding="utf-8")
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # where the tests are
        os.dup2(2, 1)  # where the verdict goes
        _serve()
    theirs.close()
    _channel = ours.makefile("rw", encoding="utf-8")
    verdict = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the tests print
    box = os.getcwd()
    os.chdir("/")
    sys.path[:] = [path for path in sys.path if path not in ("", box)]  # no modules that the solution wrote
    json.dump(_judge(solution), verdict)
    verdict.flush()


_channel: Any = None

if __name__ == "__main__":
    main()
