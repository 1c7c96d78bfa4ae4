"""One worker and its zygote, seen from the process that calls them."""

from __future__ import annotations

import json
import os
import pickle
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from gym_core.errors import WorkerError, WorkerHungError, WorkerLostError
from gym_core.processes.workers.limits import Call, Limits

_START_S = 300.0  # for a zygote to start and import a function
_END_S = 5.0
_TICK_MS = 20
_ANSWER_BYTES = 16 << 20
_BOOT = """
import json, sys
sys.path[:], memory_bytes = json.loads(sys.argv[1])
from gym_core.processes.workers.zygote import main
main(memory_bytes)
"""
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # idle BLAS threads reserve address space


class Worker:
    """A zygote, started by the first call, and the worker that is forked from it; for one thread at a time.

    No two workers have the same zygote, so that a function that kills its parent harms no other call.
    """

    def __init__(self, memory_bytes: int | None) -> None:
        self._memory_bytes = memory_bytes
        self._zygote: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._pid = 0  # until the worker has said that it is ready
        self._is_used = False  # it has answered a call
        self._threaded: list[str] = []  # modules whose import starts threads: no process with threads may fork

    def call(self, call: Call) -> Any:
        """What the function returns; raises what `Workers.call` does."""
        was_used = self._is_used
        try:
            channel = self._get_ready(call)
            kind, value, is_clean = self._ask(channel, call)
        except BaseException as error:
            has_died = self._channel is None
            self._renew()
            if isinstance(error, WorkerLostError) and has_died and was_used:
                return self.call(call)  # an earlier call may have brought it about
            raise
        self._is_used = True
        if not is_clean:
            self._renew()
        if kind == "memory":
            raise WorkerHungError(f"{call.function} used up its {self._memory_bytes} bytes of memory")
        if kind == "missing":
            raise WorkerLostError(f"the worker could not import {call.function}: {value}")
        if kind == "error":
            raise WorkerError(value)
        return value

    def close(self) -> None:
        """End the zygote and the worker, with all that the worker has started."""
        zygote, self._zygote = self._zygote, None
        if zygote is None:
            return
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)  # the zygote then ends its worker and itself
        with suppress(subprocess.TimeoutExpired):
            zygote.wait(_END_S if self._channel else 0)  # without a worker there is nothing to wait for
        zygote.kill()
        zygote.wait()
        self._control.close()
        self._hang_up()

    def forget(self) -> None:
        """Leave the zygote to the process that has started it."""
        if self._zygote:
            self._zygote.returncode = 0  # it is not for this process to wait for
            self._control.close()
        self._hang_up()

    def _get_ready(self, call: Call) -> socket.socket:
        if self._zygote and self._ends.poll(0):
            with suppress(WorkerLostError):
                self._receive_end()  # of an idle worker; or the zygote is gone
        if self._zygote is None:
            self._start()
        if call.module not in self._imported:
            self._import(call)
        channel = self._channel or self._fork()
        if not self._pid:
            kind, value, _ = self._receive_line(channel, _starting(call))
            if kind != "ready":
                raise WorkerLostError(f"the worker could not import {call.module}: {value}")
            self._pid = value
        return channel

    def _start(self) -> None:
        # Neither fork nor multiprocessing: safe with threads in this process, and `__main__` is not imported again.
        command = [sys.executable, "-P", "-c", _BOOT, json.dumps([_path(), self._memory_bytes])]
        null, env = subprocess.DEVNULL, {**os.environ, **_ONE_THREAD}
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._zygote = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=null, stderr=null, env=env, start_new_session=True
            )
        self._ends = select.poll()  # select() refuses the high descriptors of a busy trainer
        self._ends.register(self._control, select.POLLIN)
        self._imported = set(self._threaded)

    def _import(self, call: Call) -> None:
        """Have the zygote import a module; where that starts threads, each worker will do so itself."""
        if self._channel:
            self._end_worker()
        self._send({"import": call.module, "path": _path()})
        check = _starting(call)
        while not self._ends.poll(_TICK_MS):
            check()
        answer = self._receive()
        if answer["problem"]:
            self.close()
            raise WorkerLostError(f"the worker could not import {call.module}: {answer['problem']}")
        if answer["threads"]:
            self.close()
            self._threaded.append(call.module)
            self._start()
        self._imported.add(call.module)

    def _fork(self) -> socket.socket:
        """Have a worker forked; it will say when it is ready."""
        self._channel, theirs = socket.socketpair()
        self._channel.settimeout(_END_S)  # for a worker that does not read
        with theirs:
            self._send({"fork": self._threaded}, theirs.fileno())
        self._answers = select.poll()
        self._answers.register(self._channel, select.POLLIN)
        self._answers.register(self._control, select.POLLIN)
        return self._channel

    def _renew(self) -> None:
        """Have the worker replaced, without waiting for the new one."""
        if self._zygote is None:
            return
        try:
            if self._channel:
                self._end_worker()
            self._fork()
        except WorkerLostError:
            self.close()

    def _ask(self, channel: socket.socket, call: Call) -> Any:
        """Send a call and wait for its answer: its kind, a value, and whether the worker can take another call."""
        limits = Limits(call, self._pid)
        with suppress(OSError):  # the worker has died, which reading will tell
            channel.sendall(pickle.dumps((call.function, call.arguments)))
        return self._receive_line(channel, limits.check)

    def _receive_line(self, channel: socket.socket, check: Callable[[], None]) -> Any:
        line = bytearray()
        while not line.endswith(b"\n"):
            if line:
                check()  # or a worker that writes a byte now and then would never meet its limits
            ready = self._answers.poll(_TICK_MS)
            if not ready:
                check()
            elif all(descriptor != channel.fileno() for descriptor, _ in ready):
                raise WorkerLostError(f"the worker died, {self._receive_end()}")
            else:
                line += self._receive_chunk(channel)
            if len(line) > _ANSWER_BYTES:
                raise WorkerHungError(f"the worker answered with more than {_ANSWER_BYTES} bytes")
        try:
            kind, value, is_clean = json.loads(line)
        except (ValueError, TypeError, RecursionError) as error:
            raise WorkerLostError(f"the worker garbled its answer: {error}") from error
        return kind, value, is_clean

    def _receive_chunk(self, channel: socket.socket) -> bytes:
        with suppress(ConnectionResetError):
            if chunk := channel.recv(1 << 16):
                return chunk
        raise WorkerLostError(f"the worker died, {self._end_worker()}")

    def _end_worker(self) -> str:
        self._send({"kill": True})  # which does nothing where it has ended
        return self._receive_end()

    def _receive_end(self) -> str:
        """How the worker ended."""
        status: int = self._receive()["exit_status"]
        self._hang_up()
        return f"signal {-status}" if status < 0 else f"exit status {status}"

    def _hang_up(self) -> None:
        if self._channel:
            self._channel.close()
        self._channel, self._pid, self._is_used = None, 0, False

    def _send(self, message: object, *descriptors: int) -> None:
        try:
            socket.send_fds(self._control, [json.dumps(message).encode()], descriptors)
        except OSError as error:
            raise self._zygote_lost() from error

    def _receive(self) -> Any:
        message = b""
        with suppress(ConnectionResetError):  # it was killed before it had read what it was sent
            if self._ends.poll(_END_S * 1000):
                message = self._control.recv(1 << 16)
        if not message:
            raise self._zygote_lost()
        return json.loads(message)

    def _zygote_lost(self) -> WorkerLostError:
        self.close()
        return WorkerLostError("the worker died with its zygote")


def _path() -> list[str]:
    return [str(entry) for entry in sys.path]


def _starting(call: Call) -> Callable[[], None]:
    return partial(_check_start, call, time.monotonic() + _START_S)


def _check_start(call: Call, deadline_s: float) -> None:
    call.check_wanted()
    if time.monotonic() > deadline_s:
        raise WorkerLostError(f"the import of {call.module} took longer than {_START_S:g} seconds")
