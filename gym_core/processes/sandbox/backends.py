"""Back ends: what starts the process of a run and isolates it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from gym_core.errors import WorkerLostError
from gym_core.processes.sandbox.isolation import BOX

_START_S = 300  # for the zygote to import its modules
_END_S = 5
ENV = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # the same code gives the same verdict
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
BOX_ENV = {"HOME": BOX, "TMPDIR": BOX}
# The zygote imports these modules alone, not `gym_core`: what it imports, every run is forked with.
_BOOT = """
import json, sys, types
sys.path[:], directory = json.loads(sys.argv[1])
for name in "", "/processes", "/processes/sandbox":
    package = "gym_core" + name.replace("/", ".")
    sys.modules[package] = types.ModuleType(package)
    sys.modules[package].__path__ = [directory + name]
from gym_core.processes.sandbox.zygote import main
main()
"""


class RefusedError(Exception):
    """A back end can't isolate on this machine."""


@dataclass(frozen=True)
class End:
    """How the process of a run ended.

    Attributes:
        exit_status: Negative for a signal.
        cpu_s: CPU seconds it used.
        limit: The limit the back end killed it for.
        busy_s: Seconds it ran or waited for a core until the caller had it killed; None where that is not known.
        problem: Why the code could not be started; then the rest says nothing.
    """

    exit_status: int = 0
    cpu_s: float = 0.0
    limit: Literal["cpu"] | None = None
    busy_s: float | None = None
    problem: str | None = None


class Started(Protocol):
    """A run under way, for one thread."""

    def fileno(self) -> int:
        """A descriptor that becomes readable when the run has ended."""

    def kill(self) -> None:
        """Have the run killed with all its processes; it then ends."""

    def end(self) -> End:
        """How it ended; called once, after it did."""

    def close(self) -> None:
        """Kill the run if it has not ended, and free what it holds."""


class Backend(Protocol):
    """Isolates runs; for any thread.

    A run reads the header that `child.read_header` knows and its own input from standard input.
    """

    tells_start: bool  # on standard error, by `child.STARTED`

    def start(self, stdin: int, stdout: int, stderr: int, *, cpu_s: float) -> Started:
        """Start a run; the descriptors stay the caller's.

        Raises:
            WorkerLostError: It can't be started.
        """

    def is_alive(self) -> bool:
        """It can start runs."""

    def close(self) -> None:
        """End all runs."""


class Zygote:
    """Forks runs from a process that has imported the modules.

    Raises:
        RefusedError: The zygote could not be isolated, or could not import the modules.
    """

    tells_start = False

    def __init__(self, modules: Sequence[str], *, isolate: bool, disk_bytes: int) -> None:
        path = json.dumps([[str(entry) for entry in sys.path if entry], str(Path(__file__).parents[2])])
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, path],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**ENV, **BOX_ENV} if isolate else ENV,
            cwd="/",
            start_new_session=True,
        )
        theirs.close()
        self._control.settimeout(_START_S)
        with suppress(OSError):
            settings = {"modules": list(modules), "isolate": isolate, "disk_bytes": disk_bytes}
            self._control.send(json.dumps(settings).encode())
        try:
            answer = self._control.recv(1 << 16)
        except OSError as error:
            answer = str(error).encode()
        if answer != b"ready":
            self.close()
            raise RefusedError(answer.decode() or "the zygote died")

    def start(self, stdin: int, stdout: int, stderr: int, *, cpu_s: float) -> "_Forked":
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                socket.send_fds(self._control, [str(cpu_s).encode()], [stdin, stdout, stderr, theirs.fileno()])
            except OSError as error:
                ours.close()
                raise WorkerLostError(f"the sandbox's zygote is gone: {error}") from error
        return _Forked(ours)

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)  # the zygote then ends its runs and itself
        self._control.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        with suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class _Forked:
    def __init__(self, status: socket.socket) -> None:
        self._status = status

    def fileno(self) -> int:
        return self._status.fileno()

    def kill(self) -> None:
        with suppress(OSError):
            self._status.shutdown(socket.SHUT_WR)

    def end(self) -> End:
        try:
            report = self._status.recv(1 << 12)
        except OSError as error:
            return End(problem=str(error))
        return End(**json.loads(report)) if report else End(problem="its zygote died")

    def close(self) -> None:
        self._status.close()
