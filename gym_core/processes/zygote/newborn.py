"""The first steps of a forked process, before it runs its entry."""

import json
import os
import signal
import socket
from collections.abc import Mapping
from typing import NoReturn

from gym_core.processes.kernel import (
    Host,
    adopt_orphans,
    die_with_parent,
    filter_system_calls,
    isolate_run,
    limit_kernel_memory,
    set_limits,
)
from gym_core.processes.zygote.imports import Entry, describe

MESSAGE_BYTES = 1 << 16
MOST_DESCRIPTORS = 16


class Newborn:
    """This process, just forked: it isolates itself, waits for its entry, and runs it.

    Args:
        channel: Channel on which the entry is sent.
        host: Parts of the host that isolate it; None without isolation.
        mapped_bytes: Address space that the zygote has mapped.
        zygote: Process id of the zygote.
    """

    def __init__(self, channel: socket.socket, host: Host | None, mapped_bytes: int, zygote: int) -> None:
        self._channel = channel
        self._host = host
        self._mapped_bytes = mapped_bytes
        self._zygote = zygote

    def live(self, entries: Mapping[str, Entry], directory: str | None, box_bytes: int) -> NoReturn:
        """Run one of the entries, and end.

        Args:
            entries: Entries by name.
            directory: Current directory without isolation; None for the zygote's.
            box_bytes: Size of its directory with isolation.
        """
        problem = ""
        try:
            self._isolate(directory, box_bytes)
        except BaseException as error:  # the caller is told, since none of its code has run
            problem = describe(error)
        message, descriptors, _, _ = socket.recv_fds(self._channel, MESSAGE_BYTES, MOST_DESCRIPTORS)
        if not message or (not self._host and os.getppid() != self._zygote):
            os._exit(0)
        self._channel.close()
        status = socket.socket(fileno=descriptors.pop())
        request = json.loads(message)
        try:
            self._limit(request["limits"])
        except BaseException as error:
            problem = problem or describe(error)
        if problem:
            status.send(json.dumps({"problem": problem}).encode())
            os._exit(1)
        status.close()
        exit_status = 1
        try:
            entries[request["entry"]](request["settings"], descriptors)
            exit_status = 0
        finally:
            os._exit(exit_status)

    def _isolate(self, directory: str | None, box_bytes: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _close_all_but({self._channel.fileno(), *([self._host.proc] if self._host else [])})
        os.setsid()  # process groups span pid namespaces: kill(0, SIGKILL) would end others that the zygote forked
        if self._host:
            isolate_run(self._host, box_bytes)
        else:
            die_with_parent(signal.SIGKILL)
            adopt_orphans()
            os.chdir(directory or ".")

    def _limit(self, limits: Mapping[str, float]) -> None:
        if self._host:
            # The kernel counts CPU seconds by its ticks. It would kill a program that runs at each tick, and hardly at
            # other times, before it has used them up, and the caller, who counts them exactly, would call it lost.
            limits = {name: most for name, most in limits.items() if name != "cpu_s"}
        set_limits(limits, self._mapped_bytes)
        if self._host:
            limit_kernel_memory()
            filter_system_calls(self._host.call_filter)


def _close_all_but(kept: set[int]) -> None:
    start = 3
    for descriptor in sorted(kept):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))
