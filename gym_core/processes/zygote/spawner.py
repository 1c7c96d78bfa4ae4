"""Processes for systems without a zygote: each is a fresh interpreter, with the limits that the system has."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from gym_core.errors import WorkerLostError
from gym_core.processes.zygote.child import End
from gym_core.processes.zygote.client import BOOT, import_path, packages

_RUN = """
from importlib import import_module
module, _, name = settings["entry"].partition(":")
entry = getattr(import_module(module), name)
for name in [name for name in sys.modules if name.partition(".")[0] == "gym_core"]:
    del sys.modules[name]
entry(settings["settings"], settings["descriptors"])
"""


class Spawner:
    """Starts interpreters where a `Zygote` would fork, with the same methods; for any thread.

    A descendant that started another session, and whose parent is gone, may outlive this process.
    """

    def __init__(self, entries: Sequence[str], *, env: Mapping[str, str]) -> None:
        self._packages = packages(entries)
        self._env = dict(env)

    def load(self, module: str, *, check: Callable[[], None] = lambda: None) -> bool:
        """Leave the import of a module to each process."""
        return True

    def fork(
        self,
        entry: str,
        settings: object = None,
        descriptors: Sequence[int] = (),
        *,
        limits: Mapping[str, float] | None = None,
    ) -> Spawned:
        """Start a process that runs an entry; its only limits are those that the entry sets."""
        message = {
            "entry": entry,
            "settings": settings,
            "descriptors": list(descriptors),
            "path": import_path(),
            "packages": self._packages,
        }
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", BOOT + _RUN, json.dumps(message)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=self._env,
                pass_fds=descriptors,
                start_new_session=True,
            )
        except OSError as error:
            raise WorkerLostError(f"{sys.executable} can't be started: {error}") from error
        return Spawned(process)

    def is_alive(self) -> bool:
        """Whether it can start processes."""
        return True

    def close(self) -> None:
        """Do nothing: processes belong to their callers."""


class Spawned:
    """A child of this process, with the methods of `Child`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self._waiter = Waiter(process)
        self._is_killed = False

    def fileno(self) -> int:
        """A descriptor that becomes readable when the process has ended."""
        return self._waiter.fileno()

    def kill(self) -> None:
        """Kill the process and all of its session."""
        self._is_killed = True
        with suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)

    def end(self) -> End:
        """How it ended; called once, afterwards."""
        exit_status, cpu_s = self._waiter.wait()
        return End(exit_status, cpu_s, is_lost=exit_status == -signal.SIGKILL and not self._is_killed)

    def close(self) -> None:
        """Kill the process if it has not ended, and free its resources."""
        self.kill()
        self._waiter.wait()
        self._waiter.close()

    def forget(self) -> None:
        """Leave the process to the one from which this process was forked."""
        self._waiter.close()


class Waiter:
    """Waits for a process in a thread, with a descriptor that shows its end; it needs no system call of Linux."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._reader, self._writer = os.pipe()
        self._cpu_s = 0.0
        self._thread = threading.Thread(target=self._wait, name="gym-waiter", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """A descriptor that becomes readable when the process has ended."""
        return self._reader

    def wait(self) -> tuple[int, float]:
        """Wait for the end of the process; return its exit status and CPU seconds."""
        self._thread.join()
        return self._process.returncode, self._cpu_s

    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.returncode is not None

    def close(self) -> None:
        """Free the descriptor."""
        os.close(self._reader)

    def _wait(self) -> None:
        _, status, usage = os.wait4(self._process.pid, 0)
        self._cpu_s = usage.ru_utime + usage.ru_stime
        self._process.returncode = os.waitstatus_to_exitcode(status)
        os.close(self._writer)
