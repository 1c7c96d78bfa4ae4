"""The poller: which descriptor is watched, and what is done when it is ready."""

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
        """Do something when a descriptor is ready."""
        self._actions[descriptor] = action
        self._poll.register(descriptor, events)

    def leave(self, descriptor: int) -> None:
        """Watch a descriptor no longer, if it was watched; it is to be closed afterwards."""
        if self._actions.pop(descriptor, None):
            self._poll.unregister(descriptor)

    def wait(self, timeout_ms: int | None) -> None:
        """Wait until a descriptor is ready, or for the timeout, and do what is to be done."""
        for descriptor, _ in self._poll.poll(timeout_ms):
            if action := self._actions.get(descriptor):  # an earlier one may have ended its watch
                action()


class Drains:
    """Pipes of commands that have ended, to which background processes go on writing; what they write is forgotten.

    Args:
        poller: Where they are waited for.
        most_bytes: After so many, all in all, a pipe that is still written to is closed.
    """

    def __init__(self, poller: Poller, most_bytes: int) -> None:
        self._poller = poller
        self._left_bytes = most_bytes
        self._pipes: list[int] = []

    def add(self, pipe: int) -> None:
        """From now on, read what comes, and close the pipe when nobody can write to it any more."""
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
    """Read what a pipe holds; how many bytes that was, and None where there was nothing yet."""
    try:
        return len(os.read(pipe, 1 << 16))
    except BlockingIOError:
        return None
