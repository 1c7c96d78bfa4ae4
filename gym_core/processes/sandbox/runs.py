"""The sandbox: runs programs that a model wrote where they can do no harm."""

from __future__ import annotations

import asyncio
import base64
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, get_args

from gym_core.errors import WorkerHungError, WorkerLostError
from gym_core.processes.functions import call_result, function_name, pickled_arguments
from gym_core.processes.results import Ran
from gym_core.processes.sandbox import caller
from gym_core.processes.sandbox.backends import Backend
from gym_core.processes.sandbox.child import encode_run, inside_box
from gym_core.processes.sandbox.docker import Docker
from gym_core.processes.sandbox.slots import Slot, Slots
from gym_core.processes.sandbox.watch import Request, watch_program
from gym_core.processes.sandbox.ways import DISK_BYTES, Isolation, LazyBackend
from gym_core.processes.sessions import Server, Session
from gym_core.processes.zygote import forget_in_forks

PROCESSES = 8
OPEN_FILES = 128
_CALLER = Path(caller.__file__).read_text(encoding="utf-8")
_ASLEEP = 16  # how many times as many runs there may be as are awake
_MOST_THREADS = 64
_CALL_S = 60.0  # wall seconds of a call
_ANSWER_BYTES = 1 << 20
_LEAST_BYTES = 128 << 20  # for the server of a session


class Sandbox:
    """Runs untrusted Python programs, each isolated from the machine and from all others.

    A run can read the standard library, the imported packages, the system's programs and its own files. It can write to
    its own directory, which is in memory, and has no network. The sandbox is usable from any thread and any event loop.
    No run outlives `close` or this process. A process that is forked from this one, or gets the sandbox pickled, has
    its own runs.

    Attributes:
        modules: Modules that are already imported when a program starts.

    Args:
        modules: Modules that are already imported when a program starts, such as `numpy`. No other package can be
            imported.
        isolation: Way to isolate, or a back end. None takes namespaces, or else bubblewrap, or else refuses.
        size: Most runs that are awake at the same time; by default one per core, at most 4. Further runs queue.
    """

    def __init__(
        self, modules: Sequence[str] = (), *, isolation: Isolation | Backend | None = None, size: int | None = None
    ) -> None:
        if isinstance(isolation, str) and isolation not in get_args(Isolation):
            raise ValueError(f"isolation must be one of {get_args(Isolation)}, not {isolation!r}")
        self.modules = tuple(modules)
        self._isolation = isolation
        self._size = size or min(4, os.cpu_count() or 1)
        self._closed = threading.Event()
        self._set_up()
        forget_in_forks(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Sandbox, self.modules, isolation=self._isolation, size=self._size), ()

    async def run(
        self,
        code: str,
        *,
        stdin: str = "",
        files: Mapping[str, str] | None = None,
        cpu_s: float = 5.0,
        sleep_s: float = 5.0,
        wall_s: float = 60.0,
        memory_bytes: int = 512 << 20,
        output_bytes: int = 1 << 20,
    ) -> Ran:
        """Run a program; cancelling the call kills it.

        Args:
            code: Source of the program.
            stdin: Text for its standard input.
            files: Files in its directory, by relative path.
            cpu_s: CPU seconds that it and the processes it starts may use together.
            sleep_s: Seconds in which all of them may be asleep.
            wall_s: Seconds that it may take. Past them, a run that slept for more than half of the time has met its
                limit, and one that was kept waiting is lost, because the machine is too slow.
            memory_bytes: Address space of each of its processes, beyond what the imported modules take, and memory that
                all of them may hold together.
            output_bytes: Most bytes that it may write to standard output, and to standard error.

        Raises:
            WorkerLostError: The sandbox can't isolate here, was closed, or lost the run; or the machine is too slow.
            ValueError: The path of a file leads out of the directory.
        """
        boxed = {inside_box(name): text for name, text in (files or {}).items()}
        stdin_bytes = self._encoded(code, stdin, boxed, limits := _limits(cpu_s, memory_bytes))
        return await self._play(Request(stdin_bytes, limits, sleep_s, wall_s, output_bytes))

    async def call(
        self,
        function: Callable[..., Any] | str,
        *args: Any,
        cpu_s: float = 5.0,
        sleep_s: float = 5.0,
        memory_bytes: int = 512 << 20,
    ) -> Any:
        """Call a function in a run of its own; for functions that evaluate text that a model wrote.

        Nothing that the text does reaches another call or this process. Within its own call it can claim any result, so
        parse a text before you evaluate it.

        Args:
            function: Top-level function of one of the sandbox's modules, or its name, "package.module:function".
            args: Arguments, anything that can be pickled.
            cpu_s: CPU seconds that the call and the processes it starts may use.
            sleep_s: Seconds that it may be asleep.
            memory_bytes: Address space that it may use, beyond what the imported modules take.

        Returns:
            The result of the function, as a JSON value.

        Raises:
            WorkerHungError: The call met a limit, died by a signal, or ended without an answer; the input is to blame.
            WorkerLostError: The sandbox can't isolate here, was closed or lost the call; the machine is too slow; or
                the function is not of one of the sandbox's modules.
            WorkerError: The function raised; the message gives the type and text of its exception.
        """
        name = function_name(function)
        module = name.partition(":")[0]
        if module not in self.modules:
            raise WorkerLostError(f"a sandbox that calls {name} must have imported it: Sandbox([{module!r}, ...])")
        stdin = f"{name}\n{base64.b64encode(pickled_arguments(name, args)).decode()}"
        stdin_bytes = self._encoded(_CALLER, stdin, {}, limits := _limits(cpu_s, memory_bytes))
        ran = await self._play(Request(stdin_bytes, limits, sleep_s, _CALL_S, _ANSWER_BYTES, is_call=True))
        if ran.limit:
            raise WorkerHungError(f"{name} used up its {ran.limit}")
        return call_result(name, ran.stdout, ran.exit_status)

    def session(
        self,
        *,
        files: Mapping[str, str | bytes] | None = None,
        image: str | None = None,
        cpu_s: float = 300.0,
        wall_s: float = 1800.0,
        memory_bytes: int = 1 << 30,
        output_bytes: int = 16 << 20,
        processes: int = 64,
    ) -> Session:
        """Make a box that keeps its files, processes and variables over the turns of an episode; it is not open yet.

        Args:
            files: Files in the box from the start, by path.
            image: Image of a Docker container for the box; None isolates as this sandbox does.
            cpu_s: CPU seconds of the whole session.
            wall_s: Seconds that the session may spend in commands and cells, in total.
            memory_bytes: Memory of all processes together, and address space of each, beyond what the imported modules
                take; at least 128 MB.
            output_bytes: Bytes that commands and cells may write in the whole session.
            processes: Most processes and threads at the same time.

        Raises:
            ValueError: The memory is too small.
        """
        if memory_bytes < _LEAST_BYTES:
            raise ValueError(f"memory_bytes must be at least {_LEAST_BYTES}, not {memory_bytes}")
        limits = _limits(cpu_s, memory_bytes, processes=processes, open_files=2 * OPEN_FILES)
        settings = {"wall_s": wall_s, "output_bytes": output_bytes, "modules": self.modules, "limits": limits}

        def start(channel: int) -> Server:
            if self._closed.is_set():
                raise WorkerLostError("the sandbox is closed, it takes no more sessions")
            return (Docker(image) if image else self._backend).open_box(settings, channel)

        return Session(start, files or {}, cpu_s=cpu_s, memory_bytes=memory_bytes)

    def close(self) -> None:
        """Kill all runs and sessions; they and queued ones are lost."""
        self._closed.set()
        for start in self._slots.empty():
            start()
        self._threads.shutdown()
        self._backend.close()

    def forget(self) -> None:
        """Leave threads and runs to the process from which this one was forked."""
        self._set_up()

    def _set_up(self) -> None:
        self._backend = LazyBackend(self._isolation, self.modules)
        self._slots = Slots(self._size)
        most = min(_MOST_THREADS, self._size * _ASLEEP)
        self._threads = ThreadPoolExecutor(max(self._size, most), thread_name_prefix="gym-sandbox")

    def _encoded(self, code: str, stdin: str, files: Mapping[str, str], limits: Mapping[str, float]) -> bytes:
        return encode_run({"code": code, "files": files, "modules": self.modules, "limits": limits}, stdin)

    async def _play(self, request: Request) -> Ran:
        future: Future[Ran] = Future()
        self._slots.take(partial(self._start, request, future))
        try:
            return await asyncio.wrap_future(future)
        finally:
            request.cancelled.set()

    def _start(self, request: Request, future: Future[Ran]) -> None:
        try:
            if self._closed.is_set():
                raise RuntimeError("closed")
            self._threads.submit(self._run, request, future)
        except RuntimeError as error:
            lost = WorkerLostError("the sandbox is closed, it takes no more runs")
            lost.__cause__ = error
            if future.set_running_or_notify_cancel():
                future.set_exception(lost)

    def _run(self, request: Request, future: Future[Ran]) -> None:
        """Run a program in one of the threads, for a slot until it has ended or fallen asleep."""
        slot = Slot(self._slots)
        try:
            if not future.set_running_or_notify_cancel():
                return
            if self._closed.is_set() or request.cancelled.is_set():
                raise WorkerLostError("the run was cancelled")
            future.set_result(watch_program(self._backend.get(), request, self._closed, slot))
        except BaseException as error:  # the thread's boundary: the caller is told of any failure
            future.set_exception(error)
        finally:
            slot.leave()


def _limits(
    cpu_s: float, memory_bytes: int, *, processes: int = PROCESSES, open_files: int = OPEN_FILES
) -> dict[str, float]:
    """The limits that the process of a run or the server of a session keeps."""
    return {
        "cpu_s": cpu_s,
        "memory_bytes": memory_bytes,
        "processes": processes,
        "disk_bytes": DISK_BYTES,
        "open_files": open_files,
    }
