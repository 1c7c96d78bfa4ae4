"""Programs that isolate a run, such as bubblewrap."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from gym_core.errors import WorkerLostError
from gym_core.processes.kernel import BOX, DEVICES, oom_kills
from gym_core.processes.sandbox import child
from gym_core.processes.sandbox.backends import BOX_ENV, ENV
from gym_core.processes.zygote import End, RefusedError, Waiter

# This package may be missing in the file system of the program.
_BOOT = """
import json, sys, types
sources = json.loads(sys.argv[1])
for parts in [name.split(".") for name in sources]:
    for length in range(1, len(parts)):
        sys.modules.setdefault(".".join(parts[:length]), types.ModuleType(".".join(parts[:length]))).__path__ = []
for name, source in sources.items():
    module = sys.modules.setdefault(name, types.ModuleType(name))
    exec(compile(source, name, "exec"), module.__dict__)
    setattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], module)
main = module.main
for name in [name for name in sys.modules if name.partition(".")[0] == "gym_core"]:
    del sys.modules[name]
main()
"""
_KERNEL = "gym_core.processes.kernel"
_KERNEL_NAMES = ("calls", "files", "filter", "limits", "memory", "namespaces", "ps", "usage")
KERNEL_SOURCES = [*(f"{_KERNEL}.{name}" for name in _KERNEL_NAMES), _KERNEL]
"""Modules of an interpreter that lacks this package, each after those that it imports."""

_SIGNALLED = 128  # a shell's and bubblewrap's exit status for signal n is this plus n


class Command:
    """Starts each run by a program that isolates, such as bubblewrap, with a new interpreter every time.

    The program must end its run when it is killed.

    Args:
        prefix: Program and its arguments; the command line of an interpreter follows them.
        python: Interpreter, by its path in the program's file system.
    """

    tells_start = True

    def __init__(self, prefix: Sequence[str], *, python: str = sys.executable) -> None:
        self._command = [*prefix, *interpreter_command(python)]

    def start(self, stdin: int, stdout: int, stderr: int, *, limits: Mapping[str, float]) -> "Program":
        try:
            process = subprocess.Popen(
                self._command, stdin=stdin, stdout=stdout, stderr=stderr, env=ENV, cwd="/", start_new_session=True
            )
        except OSError as error:
            raise WorkerLostError(f"{self._command[0]} can't be started: {error}") from error
        return Program(process, limits)

    def is_alive(self) -> bool:
        return True

    def close(self) -> None:
        """Do nothing: runs belong to their callers."""


def interpreter_command(python: str) -> list[str]:
    """The command line of an interpreter that reads a run from standard input and runs it."""
    return boot(python, [*KERNEL_SOURCES, child.__name__])


def boot(python: str, modules: Sequence[str], *arguments: str) -> list[str]:
    """The command line of an interpreter that lacks this package, which runs `main` of the last given module.

    Args:
        python: Interpreter.
        modules: Names of modules of this package, each after those that it imports.
        arguments: Content of `sys.argv[2:]`.
    """
    sources = {}
    for name in modules:
        spec = find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        sources[name] = Path(spec.origin).read_text(encoding="utf-8")
    return [python, "-P", "-c", _BOOT, json.dumps(sources), *arguments]


class Program:
    """A run whose isolating program is a child of this process."""

    def __init__(self, process: "subprocess.Popen[bytes]", limits: Mapping[str, float]) -> None:
        self.pid: int | None = process.pid
        self._process = process
        self._waiter = Waiter(process)
        self._cpu_s = limits["cpu_s"]
        self._oom_kills = oom_kills()
        self._is_killed = False

    def fileno(self) -> int:
        return self._waiter.fileno()

    def kill(self) -> None:
        self._is_killed = True
        with suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> End:
        exit_status, cpu_s = self._waiter.wait()
        # The code can kill itself, but not the isolating program.
        is_lost = exit_status == -signal.SIGKILL or self._oom_kills != oom_kills()
        if exit_status > _SIGNALLED:
            exit_status = _SIGNALLED - exit_status
        is_killed = exit_status == -signal.SIGKILL
        has_met_limit = exit_status == -signal.SIGXCPU or (is_killed and cpu_s >= self._cpu_s)
        if self._is_killed or has_met_limit:
            return End(exit_status, cpu_s, "cpu" if has_met_limit and not self._is_killed else None)
        return End(exit_status, cpu_s, is_lost=is_killed and is_lost)

    def close(self) -> None:
        if not self._waiter.has_ended():
            self.kill()
        self._waiter.wait()
        self._waiter.close()


def bubblewrap(disk_bytes: int) -> Command:
    """Runs by bubblewrap. They see all installed packages, not only the imported ones.

    Raises:
        RefusedError: Bubblewrap is not installed, can't isolate, or would run as root, whose processes no limit counts.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise RefusedError("bwrap is not installed")
    if os.geteuid() == 0:
        raise RefusedError("bwrap can't limit the processes of root")
    packages = [path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")]
    shown = {"/usr", sys.prefix, sys.base_prefix, *filter(os.path.isdir, packages)}
    prefix = [program, "--unshare-all", "--unshare-user", "--die-with-parent", "--cap-drop", "ALL"]
    for path in ("/bin", "/lib", "/lib64"):
        if os.path.islink(path):
            prefix += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            shown.add(path)
    for path in sorted(shown):
        prefix += ["--ro-bind", path, path]
    for path in DEVICES:
        prefix += ["--dev-bind", path, path]
    prefix += ["--size", str(disk_bytes), "--tmpfs", BOX, "--chdir", BOX, "--remount-ro", "/"]
    for name, value in {**BOX_ENV, "PYTHONPATH": os.pathsep.join(packages)}.items():
        prefix += ["--setenv", name, value]
    probe = subprocess.run([*prefix, sys.executable, "-c", ""], stdin=subprocess.DEVNULL, capture_output=True)
    if probe.returncode:
        raise RefusedError(probe.stderr.decode(errors="replace").strip() or "bwrap failed")
    return Command(prefix)
