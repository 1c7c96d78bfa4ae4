"""A worker and its zygote, seen from the process that calls them."""

from __future__ import annotations

import json
import os
import pickle
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gym_core.errors import WorkerError, WorkerHungError, WorkerLostError
from gym_core.processes.workers.limits import Call, Limits
from gym_core.processes.zygote import Child, Spawned, Spawner, Zygote, allowed_environment, missing

_START_S = 300.0  # for a worker to import what its zygote can't
_SEND_S = 5.0  # for a worker to read a call
_END_MS = 5000
_TICK_MS = 20
_ANSWER_BYTES = 16 << 20
_LIVE = "gym_core.processes.workers.child:live"


class Worker:
    """A zygote, started by the first call, and the worker forked from it; for one thread at a time.

    No two workers share a zygote, so a function that kills its parent harms no other call.
    """

    def __init__(self, memory_bytes: int | None) -> None:
        self._memory_bytes = memory_bytes
        self._zygote: Zygote | Spawner | None = None
        self._imported = set[str]()  # modules that need no import any more
        self._threaded: list[str] = []  # modules whose import starts threads: no process with threads may fork
        self._child: Child | Spawned | None = None
        self._is_ready = False  # it has reported that it is ready
        self._is_used = False  # it has answered a call

    def call(self, call: Call) -> Any:
        """The result of the function; raises the same as `Workers.call`."""
        was_used = self._is_used
        try:
            self._get_ready(call)
            kind, value, is_clean = self._ask(call)
        except BaseException as error:
            has_died = self._child is None
            self._end_child()
            if isinstance(error, WorkerLostError) and has_died and was_used:
                return self.call(call)  # an earlier call may have caused it
            raise
        self._is_used = True
        if not is_clean:
            self._end_child()
        if kind == "memory":
            raise WorkerHungError(f"{call.function} used up its {self._memory_bytes} bytes of memory")
        if kind == "missing":
            raise WorkerLostError(f"the worker could not import {call.function}: {value}")
        if kind == "error":
            raise WorkerError(value)
        return value

    def close(self) -> None:
        """End the zygote and the worker, with everything the worker has started."""
        self._hang_up()
        if self._zygote:
            self._zygote.close()
        self._zygote = None

    def forget(self) -> None:
        """Leave the worker to the process from which this one was forked."""
        if self._child:
            self._child.forget()
            self._channel.close()

    def _get_ready(self, call: Call) -> None:
        if self._child and self._answers.poll(0):
            self._end_child()  # it has ended while idle
        if self._zygote is None or not self._zygote.is_alive():
            self._start(call)
        if call.module not in self._imported:
            self._import(call)
        if self._child is None:
            self._fork()
        if not self._is_ready:
            deadline_s = time.monotonic() + _START_S
            kind, value, _ = self._receive_line(lambda: _check_start(call, deadline_s))
            if kind != "ready":
                raise WorkerLostError(f"the worker could not import {call.module}: {value}")
            self._is_ready = True

    def _start(self, call: Call) -> None:
        self.close()
        self._zygote = _start_zygote(call)
        self._imported = set(self._threaded)

    def _import(self, call: Call) -> None:
        """Let the zygote import a module; if that starts threads, each worker imports it itself."""
        how = self._end_child()
        if self._zygote is None:
            raise WorkerLostError(f"the worker died{how}")
        try:
            has_threads = self._zygote.load(call.module, check=call.check_wanted)
        except WorkerLostError:
            self.close()
            raise
        if has_threads:
            self._threaded.append(call.module)
            self._start(call)
        self._imported.add(call.module)

    def _fork(self) -> None:
        """Fork a worker, which reports when it is ready."""
        assert self._zygote
        self._channel, theirs = socket.socketpair()
        self._channel.settimeout(_SEND_S)
        settings = {"modules": self._threaded, "memory_bytes": self._memory_bytes}
        with theirs:
            try:
                self._child = self._zygote.fork(_LIVE, settings, [theirs.fileno()])
            except WorkerLostError:
                self._channel.close()
                raise
        self._answers = select.poll()  # select() refuses the high descriptors of a busy trainer
        self._answers.register(self._channel, select.POLLIN)
        self._answers.register(self._child, select.POLLIN)

    def _ask(self, call: Call) -> Any:
        """Send a call and wait for the answer: its kind, a value, and whether the worker can take another call."""
        assert self._child
        limits = Limits(call, self._child.pid)
        with suppress(OSError):  # the worker has died, as reading will show
            self._channel.sendall(pickle.dumps((call.function, call.arguments)))
        return self._receive_line(limits.check)

    def _receive_line(self, check: Callable[[], None]) -> Any:
        line = bytearray()
        while not line.endswith(b"\n"):
            if line:
                check()  # otherwise a worker that writes a byte now and then would never meet its limits
            ready = self._answers.poll(_TICK_MS)
            if not ready:
                check()
            elif all(descriptor != self._channel.fileno() for descriptor, _ in ready):
                raise WorkerLostError(f"the worker died{self._end_child()}")
            else:
                line += self._receive_chunk()
            if len(line) > _ANSWER_BYTES:
                raise WorkerHungError(f"the worker answered with more than {_ANSWER_BYTES} bytes")
        try:
            kind, value, is_clean = json.loads(line)
        except (ValueError, TypeError, RecursionError) as error:
            raise WorkerLostError(f"the worker garbled its answer: {error}") from error
        return kind, value, is_clean

    def _receive_chunk(self) -> bytes:
        with suppress(ConnectionResetError):
            if chunk := self._channel.recv(1 << 16):
                return chunk
        raise WorkerLostError(f"the worker died{self._end_child()}")

    def _end_child(self) -> str:
        """End the worker, and say how it ended."""
        if self._child is None:
            return ""
        self._child.kill()
        poll = select.poll()
        poll.register(self._child, select.POLLIN)
        end = self._child.end() if poll.poll(_END_MS) else None
        self._hang_up()
        if end is None or end.problem:
            self.close()
            return " with its zygote"
        return f", signal {-end.exit_status}" if end.exit_status < 0 else f", exit status {end.exit_status}"

    def _hang_up(self) -> None:
        if self._child:
            self._child.close()
            self._channel.close()
        self._child, self._is_ready, self._is_used = None, False, False


def _start_zygote(call: Call) -> Zygote | Spawner:
    if not missing():
        return Zygote([_LIVE], env=allowed_environment(), check=call.check_wanted)
    if os.name == "posix":
        return Spawner([_LIVE], env=allowed_environment())
    raise WorkerLostError("workers are for Linux, macOS and other POSIX systems; on Windows, use WSL")


def _check_start(call: Call, deadline_s: float) -> None:
    call.check_wanted()
    if time.monotonic() > deadline_s:
        raise WorkerLostError(f"the import of {call.module} took longer than {_START_S:g} seconds")
