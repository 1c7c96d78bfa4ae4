"""Slots, which limit how many runs are awake at the same time; further runs queue in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Slots:
    """Lets a limited number of jobs run at the same time; for any thread.

    Args:
        count: Number of slots.
    """

    def __init__(self, count: int) -> None:
        self._free = count  # below 0 when jobs went on without waiting
        self._queue: deque[Callable[[], object]] = deque()
        self._lock = threading.Lock()

    def take(self, go: Callable[[], object]) -> None:
        """Call `go` as soon as there is a slot, which it then has."""
        with self._lock:
            if self._free <= 0:
                self._queue.append(go)
                return
            self._free -= 1
        go()

    def take_at_once(self) -> None:
        """Take a slot for a job that is already running, even if there is none left."""
        with self._lock:
            self._free -= 1

    def give_back(self) -> None:
        """Pass a slot on."""
        with self._lock:
            self._free += 1
            if self._free <= 0 or not self._queue:
                return
            self._free -= 1
            go = self._queue.popleft()
        go()

    def empty(self) -> list[Callable[[], object]]:
        """Take all waiting jobs out of the queue."""
        with self._lock:
            waiting = list(self._queue)
            self._queue.clear()
        return waiting


class Slot:
    """A slot, which its job leaves to others while it is asleep; for one thread."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._is_held = True

    def leave(self) -> None:
        """Pass the slot on, unless that was done already."""
        if self._is_held:
            self._is_held = False
            self._slots.give_back()

    def take_again(self) -> None:
        """Take a slot again."""
        if not self._is_held:
            self._is_held = True
            self._slots.take_at_once()
