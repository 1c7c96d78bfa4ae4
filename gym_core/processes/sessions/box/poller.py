"""The poller: watched descriptors, and the actions when they are ready."""

import os
import select
from collections.abc import Callable

_MOST_DRAINS = 64


class Poller:
    """Descriptors and their actions, for one thread."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._actions: dict[int, Callable[[], object]] = {}

    def watch(self, descriptor: int, action: Callable[[], object], events: int = select.POLLIN) -> None:
        """Watch a descriptor, with an action for when it is ready."""
        self._actions[descriptor] = action
        self._poll.register(descriptor, events)

    def leave(self, descriptor: int) -> None:
        """Stop watching a descriptor, if it was watched; the caller closes it afterwards."""
        if self._actions.pop(descriptor, None):
            self._poll.unregister(descriptor)

    def wait(self, timeout_ms: int | None) -> None:
        """Wait until a descriptor is ready, or for the timeout, and run the actions."""
        for descriptor, _ in self._poll.poll(timeout_ms):
            if action := self._actions.get(descriptor):  # an earlier one may have ended its watch
                action()


class Drains:
    """Pipes of ended commands to which background processes still write; their output is discarded.

    Args:
        poller: Poller that waits for them.
        most_bytes: Total number of bytes after which a pipe that is still written to is closed.
    """

    def __init__(self, poller: Poller, most_bytes: int) -> None:
        self._poller = poller
        self._left_bytes = most_bytes
        self._pipes: list[int] = []

    def add(self, pipe: int) -> None:
        """Read from a pipe from now on, and close it when nobody can write to it any more."""
        self._poller.watch(pipe, lambda: self._read(pipe))
        self._pipes.append(pipe)
        if len(self._pipes) > _MOST_DRAINS:
            self._close(self._pipes[0])

    def _read(self, pipe: int) -> None:
        size = read_away(pipe)
        self._left_bytes -= size or 0
        if size == 0 or self._left_bytes < 0:
            self._close(pipe)

    def _close(self, pipe: int) -> None:
        self._pipes.remove(pipe)
        self._poller.leave(pipe)
        os.close(pipe)


def read_away(pipe: int) -> int | None:
    """Read from a pipe; return the number of bytes, or None if there was nothing yet."""
    try:
        return len(os.read(pipe, 1 << 16))
    except BlockingIOError:
        return None
