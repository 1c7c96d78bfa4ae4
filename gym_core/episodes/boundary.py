"""The boundary between our code and what authors write: whatever escapes theirs is data to ours."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from gym_core.errors import EpisodeError


class Boundary:
    """A `with` block in which other people's code runs; what escapes it is kept, unless it stops this task itself.

    Kept is also a SystemExit, which would end the event loop, and that something the code waits for was cancelled.
    Raised again are a KeyboardInterrupt, the cancellation of this task, and the closing of its coroutine.

    Attributes:
        failure: What escaped, if anything has.
    """

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self._task = _current_task()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None or self._stops_task(error):
            return False
        self.failure = error
        return True

    def _stops_task(self, error: BaseException) -> bool:
        if isinstance(error, asyncio.CancelledError):
            return self._task is not None and self._task.cancelling() > 0
        if isinstance(error, GeneratorExit):  # a coroutine is closed by other code than the task that runs it
            return self._task is None or _current_task() is not self._task
        return isinstance(error, KeyboardInterrupt)


def sentence(error: BaseException) -> str:
    """What an exception says, after its type where that is not ours."""
    if isinstance(error, asyncio.CancelledError):
        return "something it waited for was cancelled"
    said = text_of(error)
    return said if isinstance(error, EpisodeError) else f"{type(error).__name__}: {said}"


def text_of(error: BaseException) -> str:
    """The message of an exception, whose `__str__` may be other people's code and fail too."""
    with Boundary() as boundary:
        return str(error)
    return f"(its message can't be shown: {type(boundary.failure).__name__} in __str__)"


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs
        return None
