"""The pool: threads that pass calls to workers, and survive a fork and the end of this process."""

from __future__ import annotations

import asyncio
import atexit
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gym_core.errors import WorkerLostError
from gym_core.processes.functions import function_name, pickled_arguments
from gym_core.processes.workers.limits import Call
from gym_core.processes.workers.worker import Worker
from gym_core.processes.zygote import forget_in_forks

_END_S = 10.0


class Workers:
    """A pool of child processes that run functions under limits; usable from any thread and any event loop.

    A worker is forked from its zygote, a process that has imported the function. It gets only the environment variables
    of `allowed_environment`. It stays warm between calls, and is replaced after it was killed, or after a call left
    threads, timers or processes behind. If a used worker dies during a call, the call is run again in a new one. No
    process outlives `close` or this process. A process that is forked from this one has its own workers.

    On macOS and other POSIX systems a worker is a fresh interpreter, and its limits are measured to the second. On
    Windows there are no workers.

    Args:
        size: Most workers at the same time; by default one per core, at most 4. Further calls queue.
        memory_bytes: Address space of each worker, beyond what the imported modules take; None for no limit.
    """

    def __init__(self, size: int | None = None, *, memory_bytes: int | None = None) -> None:
        self._size = size or min(4, os.cpu_count() or 1)
        self._memory_bytes = memory_bytes
        self._closed = threading.Event()
        self._set_up()
        forget_in_forks(self)

    async def call(
        self, function: Callable[..., Any] | str, *args: Any, cpu_s: float = 5.0, sleep_s: float = 5.0
    ) -> Any:
        """Call a function in a worker; cancelling the call kills the worker.

        Args:
            function: Top-level function of an importable module, not of `__main__`, or its name,
                "package.module:function", if this process should not import it.
            args: Arguments, anything that can be pickled.
            cpu_s: CPU seconds that the function, its threads and its processes may use, without its import.
            sleep_s: Seconds in which all of them may be asleep. Time in which a busy machine keeps them waiting for a
                core counts as neither; but after twelve times both together, the call is lost.

        Returns:
            The result of the function, as a JSON value: nothing from a worker is unpickled.

        Raises:
            WorkerHungError: The function used up its CPU seconds or its memory, or slept for too long.
            WorkerLostError: The worker died, the machine is too slow, the function could not be imported, or the pool
                is closed.
            WorkerError: The function raised; the message gives the type and text of its exception.
        """
        name = function_name(function)
        call = Call(name, pickled_arguments(name, args), cpu_s, sleep_s, self._closed)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._queue(call, future)
        try:
            return await future
        finally:
            call.cancelled = True

    def close(self) -> None:
        """Kill all workers; running and queued calls are lost."""
        with self._queueing:  # no call is queued behind the last ones that the threads take
            self._closed.set()
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join(_END_S)
        for worker in self._workers:
            worker.close()

    def _set_up(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Call, asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._queueing = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._workers = [Worker(self._memory_bytes) for _ in range(self._size)]
        self._idle = list(self._workers)

    def _queue(self, call: Call, future: asyncio.Future[Any]) -> None:
        with self._queueing:
            if self._closed.is_set():
                raise WorkerLostError("the workers are closed, they take no more calls")
            while len(self._threads) < self._size:
                thread = threading.Thread(target=self._work, name="gym-workers", daemon=True)
                thread.start()
                self._threads.append(thread)
            self._calls.put((call, future))

    def _work(self) -> None:
        while item := self._calls.get():
            call, future = item
            worker = self._idle.pop()  # there are as many workers as threads; the one used last is warm
            try:
                call.check_wanted()
                value, error = worker.call(call), None
            except BaseException as caught:  # the thread's boundary: the caller is told of any failure
                value, error = None, caught
            self._idle.append(worker)
            with suppress(RuntimeError):  # the loop was closed, nobody waits
                future.get_loop().call_soon_threadsafe(_settle, future, value, error)

    def forget(self) -> None:
        """Leave threads and workers to the process from which this one was forked."""
        for worker in self._workers:
            worker.forget()
        self._set_up()


def shared_workers() -> Workers:
    """The shared pool of this process, for verifiers and scorers; closed at exit."""
    return _shared


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error:
        future.set_exception(error)
    else:
        future.set_result(value)


_shared = Workers(memory_bytes=4 << 30)
atexit.register(_shared.close)
