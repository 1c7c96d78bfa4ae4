"""Processes of a system without what a zygote needs: each a fresh interpreter, with what limits there are."""

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
    """Starts interpreters where a `Zygote` would fork, by the same methods; for any thread.

    A process that starts another session, and whose parent is gone, outlives the process that started it.
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
        """Start a process that runs an entry; it keeps no limits but those that its entry sets."""
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
        """It can start processes."""
        return True

    def close(self) -> None:
        """Leave the processes to those who started them."""


class Spawned:
    """A child of this process, seen as a `Child` is."""

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
        """How it ended; called once, after it did."""
        exit_status, cpu_s = self._waiter.wait()
        return End(exit_status, cpu_s, is_lost=exit_status == -signal.SIGKILL and not self._is_killed)

    def close(self) -> None:
        """Kill the process if it has not ended, and free what it holds."""
        self.kill()
        self._waiter.wait()
        self._waiter.close()

    def forget(self) -> None:
        """Leave the process to the one that this process was forked from."""
        self._waiter.close()


class Waiter:
    """Waits for a process in a thread, and has a descriptor that tells its end; no system call of Linux is needed."""

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
        """Wait for the end of the process; its exit status and CPU seconds."""
        self._thread.join()
        return self._process.returncode, self._cpu_s

    def has_ended(self) -> bool:
        """The process has ended."""
        return self._process.returncode is not None

    def close(self) -> None:
        """Free the descriptor."""
        os.close(self._reader)

    def _wait(self) -> None:
        _, status, usage = os.wait4(self._process.pid, 0)
        self._cpu_s = usage.ru_utime + usage.ru_stime
        self._process.returncode = os.waitstatus_to_exitcode(status)
        os.close(self._writer)
