"""Workers: killable child processes, for functions that can hang or that run text a model wrote."""

from __future__ import annotations

import asyncio
import atexit
import importlib
import json
import math
import operator
import os
import pickle
import queue
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

from gym_core.errors import WorkerError, WorkerHungError, WorkerLostError

ANSWER_BYTES = 16 << 20
"""The longest answer a child may give."""

START_S = 300.0
"""Wall seconds in which a child must have started and imported what it is to run."""

_TICK_S = 0.05
_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from gym_core.workers import serve; serve()"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # idle BLAS threads reserve address space
_HAS_PROC = os.path.exists("/proc/self/stat")


class Workers:
    """A pool of child processes that run functions under limits; usable from any thread and any event loop.

    A child stays warm between calls and is replaced when it had to be killed. No child outlives `close`, nor its
    parent: it sees the end of its pipe, or, where a C loop keeps it from looking, meets its CPU limit.

    Args:
        size: The most children at a time; the default is one per core, at most 4. Further calls queue.
        memory_bytes: Address space of each child; None for no limit. Linux only.

    Example:
        >>> await Workers(memory_bytes=4 << 30).call(score, reply, answer, cpu_s=5.0)
    """

    def __init__(self, size: int | None = None, *, memory_bytes: int | None = None) -> None:
        size = size or min(4, os.cpu_count() or 1)
        self._closed = threading.Event()
        self._children = [_Child(memory_bytes, self._closed) for _ in range(size)]
        self._idle = list(self._children)
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="gym-workers")

    async def call(
        self, function: Callable[..., Any], *args: Any, cpu_s: float = 5.0, wall_s: float | None = None
    ) -> Any:
        """The function's result, computed in a child; cancelling the call kills the child.

        Importing the function's module is not counted in the limits.

        Args:
            function: A function of an importable module, not of `__main__`.
            args: Anything that can be pickled.
            cpu_s: CPU seconds the function may use, which a busy machine does not use up.
            wall_s: Wall seconds after which the machine is held to be broken; None for 60 and ten times `cpu_s`.

        Returns:
            What the function returned, as JSON holds it: a child that has run a model's text is not trusted with
            pickles.

        Raises:
            WorkerHungError: The function used up its CPU seconds or its memory.
            WorkerLostError: The child died, took too long, could not import the function, or the pool is closed.
            WorkerError: The function raised; the message gives the type and text of its exception.
        """
        call = _Call(_name(function), pickle.dumps(args), cpu_s, 60 + 10 * cpu_s if wall_s is None else wall_s)
        try:
            future = self._threads.submit(self._run, call)
        except RuntimeError as error:
            raise WorkerLostError("the workers are closed, they take no more calls") from error
        try:
            return await asyncio.wrap_future(future)
        finally:
            call.cancelled.set()

    def close(self) -> None:
        """Kill all children; the calls under way and in the queue are lost."""
        self._closed.set()
        self._threads.shutdown()
        for child in self._children:
            child.kill()

    def _run(self, call: _Call) -> Any:
        child = self._idle.pop()  # there are as many children as threads
        try:
            return child.call(call)
        finally:
            self._idle.append(child)


def shared_workers() -> Workers:
    """The pool of this process, for verifiers and scorers; closed at exit."""
    pid = os.getpid()  # a forked process must not use its parent's children
    return _shared.get(pid) or _shared.setdefault(pid, Workers(memory_bytes=4 << 30))


_shared: dict[int, Workers] = {}


@atexit.register
def _close_shared() -> None:
    if workers := _shared.pop(os.getpid(), None):
        workers.close()


@dataclass(frozen=True)
class _Call:
    function: str
    arguments: bytes | None  # None: only import the function
    cpu_s: float
    wall_s: float
    cancelled: threading.Event = field(default_factory=threading.Event)


def _name(function: Callable[..., Any]) -> str:
    module, name = function.__module__, function.__qualname__
    if module == "__main__" or "<" in name:
        raise WorkerError(f"a worker runs functions of importable modules, not {name!r} of {module!r}")
    return f"{module}:{name}"


class _Child:
    """One child process, started by its first call; for one thread at a time."""

    def __init__(self, memory_bytes: int | None, closed: threading.Event) -> None:
        self._memory_bytes = memory_bytes
        self._closed = closed
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, call: _Call) -> Any:
        try:
            if self._process is None or self._readable(0):  # an idle child has nothing to say, unless it has died
                self.kill()
                self._start()
            if call.function not in self._imported:
                self._import(call)
            kind, value = self._ask(call)
            if kind == "memory":
                raise WorkerHungError(f"{call.function} used up its {self._memory_bytes} bytes of memory")
        except BaseException:
            self.kill()
            raise
        if kind == "error":
            raise WorkerError(value)
        return value

    def kill(self) -> int:
        """Kill the child with all it started; its exit status, or 0 when there is no child."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        for pipe in (self._requests, self._answers):
            with suppress(OSError):  # flushing to a dead child
                pipe.close()
        return process.wait()

    def _start(self) -> None:
        # Neither fork nor multiprocessing: safe with threads in the parent, and `__main__` is not imported again.
        # Not PR_SET_PDEATHSIG either: it would fire when the *thread* that starts the child ends.
        command = [sys.executable, "-P", "-c", _BOOT, json.dumps([str(path) for path in sys.path])]
        self._process = subprocess.Popen(
            [*command, json.dumps(self._memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_ONE_THREAD},
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests: IO[bytes] = self._process.stdin
        self._answers: IO[bytes] = self._process.stdout
        self._poll = select.poll()  # select() refuses the high descriptors of a busy trainer
        self._poll.register(self._answers, select.POLLIN)
        self._imported: set[str] = set()

    def _import(self, call: _Call) -> None:
        kind, problem = self._ask(_Call(call.function, None, START_S, START_S, call.cancelled))
        if kind != "value":
            raise WorkerLostError(f"the worker could not import {call.function}: {problem}")
        self._imported.add(call.function)

    def _ask(self, call: _Call) -> tuple[str, Any]:
        """Send a call and wait for its answer: "value", "error" or "memory", and what goes with it."""
        started_s, started_cpu_s = time.monotonic(), self._cpu_s()
        try:
            pickle.dump((call.function, call.arguments, call.cpu_s), self._requests)
            self._requests.flush()
        except BrokenPipeError as error:
            raise self._death() from error
        answer = bytearray()
        while not answer.endswith(b"\n"):
            if call.cancelled.is_set() or self._closed.is_set():
                raise WorkerLostError(f"{call.function} was cancelled")
            if time.monotonic() - started_s > call.wall_s:
                raise WorkerLostError(f"{call.function} took longer than {call.wall_s:g} wall seconds")
            if self._cpu_s() - started_cpu_s > call.cpu_s or len(answer) > ANSWER_BYTES:
                raise WorkerHungError(f"{call.function} used more than {call.cpu_s:g} CPU seconds")
            if self._readable(_TICK_S):
                answer += self._read()
        kind, value = json.loads(answer)
        return kind, value

    def _readable(self, limit_s: float) -> bool:
        return bool(self._poll.poll(limit_s * 1000))

    def _read(self) -> bytes:
        chunk = os.read(self._answers.fileno(), 1 << 16)
        if not chunk:
            raise self._death()
        return chunk
