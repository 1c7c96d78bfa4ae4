"""The process of a worker, which answers calls until it is killed."""

import _thread
import json
import os
import pickle
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from operator import attrgetter
from typing import Any, NoReturn

from gym_core.processes.kernel import mapped_bytes, set_limits

_MOST_CALLS = 10_000  # per worker, so that leaks of a library don't fill the memory of later calls


def live(settings: Mapping[str, Any], descriptors: list[int]) -> NoReturn:
    """Answer calls, as a worker.

    Args:
        settings: Settings with the `modules` to import, and `memory_bytes` or None.
        descriptors: Descriptor of the socket of calls.
    """
    channel = socket.socket(fileno=descriptors[0])
    pid, calls = os.getpid(), channel.makefile("rb")
    hello = json.dumps(["ready", None, True])
    try:
        for name in settings["modules"]:
            import_module(name)
    except BaseException as error:  # the process boundary: whatever it is, the caller is told
        hello = json.dumps(["problem", _description(error), False])
    if settings["memory_bytes"]:
        set_limits({"memory_bytes": settings["memory_bytes"]}, mapped_bytes())
    threads, answered = _thread._count(), 0
    channel.sendall(hello.encode() + b"\n")
    while True:
        kind, value = _answer(*pickle.load(calls))
        if os.getpid() != pid:
            os._exit(0)  # the function forked; only one of the two may answer
        answered += 1
        is_left = _thread._count() > threads or _has_timers() or _has_children()
        is_clean = kind != "memory" and not is_left and answered < _MOST_CALLS
        channel.sendall(f'["{kind}", {value}, {json.dumps(is_clean)}]\n'.encode())


def _answer(name: str, arguments: bytes) -> tuple[str, str]:
    """Run a function; return "value", "error", "memory" or "missing", and the result or message as JSON."""
    module, _, attribute = name.partition(":")
    try:
        function = attrgetter(attribute)(sys.modules[module])
    except AttributeError as error:
        return "missing", json.dumps(str(error))
    try:
        value = function(*pickle.loads(arguments))
        try:
            return "value", json.dumps(value)
        except (TypeError, ValueError, RecursionError) as error:
            return "error", json.dumps(f"the result of {name} must be JSON: {_description(error)}")
    except MemoryError:
        return "memory", "null"
    except BaseException as error:  # the process boundary: whatever it is, the caller is told
        return "error", json.dumps(_description(error))


def _description(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:1000]


def _has_timers() -> bool:
    timers = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
    return any(any(signal.getitimer(timer)) for timer in timers)


def _has_children() -> bool:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
        return True
    return False
