"""Processes that the server of a box starts, and their output."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from gym_core.processes.kernel import cpu_s, own_proc_files

_CHUNK_BYTES = 1 << 16


class Output:
    """The standard output and standard error of a process, as far as they are kept."""

    def __init__(self) -> None:
        self._null = os.open(os.devnull, os.O_RDONLY)
        (out, self._out_end), (err, self._err_end) = os.pipe(), os.pipe()
        self.kept = {out: bytearray(), err: bytearray()}
        for descriptor in self.kept:
            os.set_blocking(descriptor, False)

    def streams(self) -> list[tuple[int, int]]:
        """The descriptors that become the standard streams of a process, which reads nothing, and their numbers."""
        return [(self._null, 0), (self._out_end, 1), (self._err_end, 2)]

    def leave(self) -> None:
        """Leave the writing ends to the process that now has them."""
        for descriptor, _ in self.streams():
            os.close(descriptor)

    def read(self, descriptor: int, most: int) -> bool:
        """Read what is available, at most one byte beyond `most`; False if nobody can write any more."""
        kept = self.kept[descriptor]
        while len(kept) <= most:
            try:
                chunk = os.read(descriptor, min(_CHUNK_BYTES, most + 1 - len(kept)))
            except BlockingIOError:
                return True
            if not chunk:
                return False
            kept += chunk
        return True

    def take(self, most: int) -> tuple[bytes, bytes]:
        """Take the kept output of both streams, at most `most` bytes of each."""
        out, err = (bytes(data[:most]) for data in self.kept.values())
        for data in self.kept.values():
            data.clear()
        return out, err

    def close(self) -> None:
        """Stop reading."""
        for descriptor in self.kept:
            os.close(descriptor)

    def is_over(self, most: int) -> bool:
        """Whether more was written than allowed."""
        return any(len(data) > most for data in self.kept.values())


@dataclass
class Process:
    """A process that the server has started in a session of its own, with its output.

    Attributes:
        exit_status: Exit status, negative for a signal; None while it runs.
    """

    pid: int
    output: Output
    exit_status: int | None = None

    def kill(self) -> None:
        """Kill it and the processes of its group."""
        if self.exit_status is None:
            os.kill(self.pid, signal.SIGKILL)  # a fork that has just begun has no group yet
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def is_gone(self) -> bool:
        """Whether neither the process nor its group is left."""
        if self.exit_status is None:
            return False
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def cpu_s(self) -> float:
        """CPU seconds used; 0 if it has ended."""
        return cpu_s(self.pid) if self.exit_status is None else 0.0


def start_command(shell: str, command: bytes, env: dict[str, str]) -> Process:
    """Start a shell.

    It does not fork, which would copy the page tables of the modules that the server keeps for the interpreter.
    """
    output = Output()
    actions = [(os.POSIX_SPAWN_DUP2, descriptor, number) for descriptor, number in output.streams()]
    arguments: list[str | bytes] = [shell, "-c", command]
    try:
        pid = os.posix_spawn(shell, arguments, env, file_actions=actions, setsid=True, setsigdef=_ignored())
    except OSError:
        output.close()
        raise
    finally:
        output.leave()
    return Process(pid, output)


def start_fork(become: Callable[[], NoReturn], kept: int) -> Process:
    """Fork the calling process.

    Args:
        become: Function that the new process runs; it must not return.
        kept: Descriptor that it keeps, in addition to the standard streams.
    """
    output = Output()
    try:
        pid = os.fork()
    except OSError:
        output.leave()
        output.close()
        raise
    if pid == 0:
        try:
            signal.set_wakeup_fd(-1)
            for changed in (*_ignored(), signal.SIGCHLD, signal.SIGINT):
                signal.signal(changed, signal.SIG_DFL)
            os.setsid()
            own_proc_files()
            for descriptor, number in output.streams():
                os.dup2(descriptor, number)
            os.closerange(3, kept)
            os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
            become()
        finally:
            os._exit(1)
    output.leave()
    return Process(pid, output)


def _ignored() -> tuple[signal.Signals, ...]:
    """Signals that Python ignores, and so does what it starts unless that is told otherwise."""
    return signal.SIGPIPE, signal.SIGXFSZ  # Windows has neither, and imports this module
