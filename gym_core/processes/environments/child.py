"""The child: the process where environments live. The zygote imports this module by itself, without the package."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gym_core.processes.environments.host import EnvironmentHost, HostedEnvironment

DESCRIPTORS = 128
"""The most channels in one message."""


def live(settings: dict[str, Any], descriptors: list[int]) -> None:
    """Serve places until the parent is gone or ends this process.

    Args:
        settings: Settings with `main`, how to import the parent's main module, or None; `places`, their number; and
            `outlives`, whether this process must notice itself that its parent is gone.
        descriptors: Descriptors of a file with the pickled environment, of a socket that sends the channels of the
            places, and of standard output and standard error.
    """
    from gym_core.processes.environments.host import EnvironmentHost

    payload, door, *outputs = descriptors
    _open_outputs(outputs)
    entrance = socket.socket(fileno=door)
    channels = _channels(entrance, settings["places"])
    if settings["outlives"]:
        threading.Thread(target=_end_with_parent, args=(entrance,), daemon=True).start()
    host = EnvironmentHost(partial(_load, payload, settings["main"]))
    threads = [threading.Thread(target=_serve, args=(host, channel), daemon=True) for channel in channels[1:]]
    for thread in threads:
        thread.start()
    _serve(host, channels[0])  # in the main thread, which some libraries require
    for thread in threads:
        thread.join()


def _serve(host: EnvironmentHost, channel: socket.socket) -> None:
    """Answer the requests for one place, in one thread, since objects of a sync hook may be bound to its thread."""
    from gym_core.processes.environments.frames import CHUNK_BYTES, Frames
    from gym_core.processes.environments.host import HostedEnvironment

    pid, frames, environment = os.getpid(), Frames(), HostedEnvironment(host, stop=channel.fileno())
    with suppress(OSError):  # the parent has given up the place while its hook ran; other places go on
        while chunk := channel.recv(CHUNK_BYTES):
            frames.add(chunk)
            while (body := frames.take()) is not None:
                answer = _answer(environment, body)
                if os.getpid() != pid:
                    os._exit(0)  # the hook forked; only one of the two may answer
                channel.sendall(answer)


def _answer(environment: HostedEnvironment, body: bytes) -> bytes:
    """The frame that answers a request; nothing for the request to stop a hook that has already ended."""
    from gym_core.processes.environments.frames import frame
    from gym_core.processes.environments.host import broken

    if not body:
        return b""
    try:
        return frame(environment.answer(*pickle.loads(body)))
    except Exception as error:  # the process boundary: pickling the author's objects may raise anything
        return frame(broken(error))


def _load(payload: int, main: list[str] | None) -> Any:
    from gym_core.processes.environments.main_module import import_main

    if main:
        import_main(*main)
    return pickle.loads(os.pread(payload, os.fstat(payload).st_size, 0))


def _channels(door: socket.socket, count: int) -> list[socket.socket]:
    found: list[int] = []
    while len(found) < count:
        message, descriptors, _, _ = socket.recv_fds(door, 1, DESCRIPTORS)
        if not message:
            os._exit(1)  # the parent is gone
        found += descriptors
    return [socket.socket(fileno=descriptor) for descriptor in found]


def _end_with_parent(door: socket.socket) -> None:
    door.recv(1)  # nothing more will come
    os.killpg(0, signal.SIGKILL)


def _open_outputs(outputs: list[int]) -> None:
    for name, number, given in zip(("stdout", "stderr"), (1, 2), outputs, strict=True):
        os.dup2(given, number)
        os.close(given)
        stream = open(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
