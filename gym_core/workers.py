"""Workers: killable child processes, for functions that can hang or that run text a model wrote."""

from __future__ import annotations

import asyncio
import atexit
import importlib
import json
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
from pathlib import Path
from typing import IO, Any

from gym_core.errors import WorkerError, WorkerHungError, WorkerLostError

_START_S = 300.0  # for a child to start and import what it is to run
_TICK_S = 0.05
_ANSWER_BYTES = 16 << 20
_BOOT = "import json, sys; sys.path[:], most = json.loads(sys.argv[1]); from gym_core.workers import serve; serve(most)"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # idle BLAS threads reserve address space
_HAS_PROC = os.path.exists("/proc/self/stat")
_shared: dict[int, Workers] = {}  # by process


class Workers:
    """A pool of child processes that run functions under limits; usable from any thread and any event loop.

    A child stays warm between calls and is replaced when it had to be killed. No child outlives `close`, nor its
    parent: it sees the end of its pipe or, where a C loop keeps it from looking, meets the kernel's CPU limit.

    Args:
        size: The most children at a time; the default is one per core, at most 4. Further calls queue.
        memory_bytes: Address space of each child; None for no limit. Linux only.
    """

    def __init__(self, size: int | None = None, *, memory_bytes: int | None = None) -> None:
        self._closed = threading.Event()
        self._children = [_Child(memory_bytes, self._closed) for _ in range(size or min(4, os.cpu_count() or 1))]
        self._idle = list(self._children)
        self._threads = ThreadPoolExecutor(len(self._children), thread_name_prefix="gym-workers")

    async def call(self, function: Callable[..., Any], *args: Any, cpu_s: float = 5.0, wall_s: float = 120.0) -> Any:
        """The function's result, computed in a child; cancelling the call kills the child.

        Args:
            function: A top-level function of an importable module, not of `__main__`.
            args: Anything that can be pickled.
            cpu_s: CPU seconds the function may use, its import not counted; a busy machine does not use them up.
            wall_s: Wall seconds after which the machine is held to be broken.

        Returns:
            What the function returned, as JSON holds it: no pickles from a child that has run a model's text.

        Raises:
            WorkerHungError: The function used up its CPU seconds or its memory.
            WorkerLostError: The child died, took too long, could not import the function, or the pool is closed.
            WorkerError: The function raised; the message gives the type and text of its exception.
        """
        call = _Call(f"{function.__module__}:{function.__qualname__}", pickle.dumps(args), cpu_s, wall_s)
        try:
            future = self._threads.submit(self._run, call)
        except RuntimeError as error:
            raise WorkerLostError("the workers are closed, they take no more calls") from error
        try:
            return await asyncio.wrap_future(future)
        finally:
            future.cancel()
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


class _Child:
    """One child process, started by its first call; for one thread at a time."""

    def __init__(self, memory_bytes: int | None, closed: threading.Event) -> None:
        self._memory_bytes = memory_bytes
        self._closed = closed
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, call: _Call) -> Any:
        try:
            if self._process is None or self._poll.poll(0):  # an idle child has nothing to say, but that it died
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
        with suppress(OSError), process:  # which closes the pipes and waits
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait()

    def _start(self) -> None:
        # Neither fork nor multiprocessing: safe with threads in the parent, and `__main__` is not imported again.
        # Not PR_SET_PDEATHSIG either: it would fire when the *thread* that starts the child ends.
        setting = json.dumps([[str(path) for path in sys.path], self._memory_bytes])
        command = [sys.executable, "-P", "-c", _BOOT, setting]
        pipe, env = subprocess.PIPE, {**os.environ, **_ONE_THREAD}
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=env, start_new_session=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests: IO[bytes] = self._process.stdin
        self._answers: IO[bytes] = self._process.stdout
        self._poll = select.poll()  # select() refuses the high descriptors of a busy trainer
        self._poll.register(self._answers, select.POLLIN)
        self._imported: set[str] = set()

    def _import(self, call: _Call) -> None:
        kind, problem = self._ask(_Call(call.function, None, _START_S, _START_S, call.cancelled))
        if kind != "value":
            raise WorkerLostError(f"the worker could not import {call.function}: {problem}")
        self._imported.add(call.function)

    def _ask(self, call: _Call) -> Any:
        """Send a call and wait for its answer, a pair: "value", "error" or "memory", and what goes with it."""
        started_s, started_cpu_s = time.monotonic(), self._cpu_s()
        with suppress(BrokenPipeError):  # it has died, which reading will tell
            pickle.dump((call.function, call.arguments, call.cpu_s), self._requests)
            self._requests.flush()
        answer = b""
        while not answer.endswith(b"\n"):
            if self._poll.poll(_TICK_S * 1000):
                answer += self._read()
            elif time.monotonic() - started_s > call.wall_s:
                raise WorkerLostError(f"{call.function} took longer than {call.wall_s:g} wall seconds")
            elif self._cpu_s() - started_cpu_s > call.cpu_s:
                raise WorkerHungError(f"{call.function} used more than {call.cpu_s:g} CPU seconds")
            if len(answer) > _ANSWER_BYTES:
                raise WorkerHungError(f"{call.function} answered with more than {_ANSWER_BYTES} bytes")
            if call.cancelled.is_set() or self._closed.is_set():
                raise WorkerLostError(f"{call.function} was cancelled")
        return json.loads(answer)

    def _read(self) -> bytes:
        if chunk := os.read(self._answers.fileno(), 1 << 16):
            return chunk
        status = self.kill()
        if status == -signal.SIGXCPU:
            raise WorkerHungError("the worker met the kernel's limit on its CPU seconds")
        raise WorkerLostError(f"the worker died, {f'signal {-status}' if status < 0 else f'exit status {status}'}")

    def _cpu_s(self) -> float:
        """CPU seconds the child has used; the wall clock stands in where there is no /proc."""
        if self._process is None or not _HAS_PROC:
            return time.monotonic()
        stat = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8", errors="replace")
        user, system = stat.rpartition(")")[2].split()[11:13]  # `man 5 proc_pid_stat`, fields 14 and 15
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def serve(memory_bytes: int | None) -> None:
    """Live the life of a child: answer calls until the parent is gone."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes and sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    for standard in (0, 1, 2):  # out of the way of prints, reads and programs that functions start
        os.dup2(os.open(os.devnull, os.O_RDWR), standard)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests, inbox), daemon=True).start()
    pid = os.getpid()
    while True:
        answer = _answer(*inbox.get())
        if os.getpid() != pid:
            os._exit(0)  # the function forked; only one of the two may answer
        answers.write(answer.encode() + b"\n")
        answers.flush()


def _receive(requests: IO[bytes], inbox: queue.SimpleQueue[Any]) -> None:
    """Receive calls in a thread of its own, which sees the parent's end even while a function runs."""
    try:
        while True:
            inbox.put(pickle.load(requests))
    finally:
        os.killpg(0, signal.SIGKILL)


def _answer(name: str, arguments: bytes | None, cpu_s: float) -> str:
    last_resort_s = int(time.process_time() + 2 * cpu_s + 2)
    with suppress(ValueError):  # the user's own limit is lower
        resource.setrlimit(resource.RLIMIT_CPU, (last_resort_s, resource.RLIM_INFINITY))
    try:
        module, _, attribute = name.partition(":")
        function = getattr(importlib.import_module(module), attribute)
        return json.dumps(["value", None if arguments is None else function(*pickle.loads(arguments))])
    except MemoryError:
        return json.dumps(["memory", None])
    except BaseException as error:  # the process boundary: whatever it is, the caller is told
        return json.dumps(["error", f"{type(error).__name__}: {error}"[:1000]])
