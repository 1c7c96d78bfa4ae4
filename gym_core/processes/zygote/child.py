"""A fork of a zygote, seen from the process that asked for it."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gym_core.errors import WorkerLostError

START_S = 300.0  # for imports
MESSAGE_BYTES = 1 << 16


@dataclass(frozen=True)
class End:
    """How a process ended.

    Attributes:
        exit_status: Exit status, negative for a signal.
        cpu_s: CPU seconds of the process, and of the processes it started and waited for.
        limit: Limit for which the kernel killed it.
        is_lost: Whether the kernel killed it for lack of memory, or an outsider did; without isolation, perhaps the
            process itself did.
        problem: Reason why it could not be started; the other fields then mean nothing.
    """

    exit_status: int = 0
    cpu_s: float = 0.0
    limit: Literal["cpu"] | None = None
    is_lost: bool = False
    problem: str | None = None


class Child:
    """A process forked by a zygote; for one thread.

    Attributes:
        pid: Process id in the pid namespace of the caller.
    """

    def __init__(self, status: socket.socket, limits: Mapping[str, float]) -> None:
        self._status = status
        self._limits = limits
        self._is_killed = False
        status.settimeout(START_S)
        self.pid = self._receive_pid()

    def fileno(self) -> int:
        """A descriptor that becomes readable when the process has ended."""
        return self._status.fileno()

    def kill(self) -> None:
        """Kill the process with everything it has started; it then ends."""
        self._is_killed = True
        with suppress(OSError):
            self._status.shutdown(socket.SHUT_WR)

    def end(self) -> End:
        """How it ended; called once, afterwards."""
        message = b""
        with suppress(OSError):
            message = self._status.recv(MESSAGE_BYTES)
        if not message:
            return End(problem="its zygote died")
        report = json.loads(message)
        if "problem" in report:
            return End(problem=report["problem"])
        status, cpu_s = report["exit_status"], report["cpu_s"]
        has_met_limit = status in (-signal.SIGXCPU, -signal.SIGKILL) and cpu_s >= self._limits.get("cpu_s", cpu_s + 1)
        is_lost = status == -signal.SIGKILL and not has_met_limit and not self._is_killed
        return End(status, cpu_s, "cpu" if has_met_limit and not self._is_killed else None, is_lost)

    def close(self) -> None:
        """Kill the process if it has not ended, and free its resources."""
        self.kill()
        self._status.close()

    def forget(self) -> None:
        """Leave the process to the one from which this process was forked."""
        self._status.close()

    def _receive_pid(self) -> int:
        """The process id here, by a descriptor of the process, since the zygote knows another id."""
        descriptors: list[int] = []
        with suppress(OSError):
            _, descriptors, _, _ = socket.recv_fds(self._status, 16, 1)
        if not descriptors:
            self._status.close()
            raise WorkerLostError("the zygote died")
        information = Path(f"/proc/self/fdinfo/{descriptors[0]}").read_text(encoding="ascii")
        os.close(descriptors[0])
        return int(next(line.split()[1] for line in information.splitlines() if line.startswith("Pid:")))
