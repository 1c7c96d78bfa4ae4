"""The boundary between our code and authors' code: whatever escapes theirs is data to ours."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Self

from gym_core.errors import EpisodeError

_log = logging.getLogger(__name__)


class Boundary:
    """A `with` block for other people's code, which keeps any exception that is not meant to stop this task.

    It also keeps a SystemExit, which would end the event loop, and the cancellation of something that the code waits
    for. It raises a KeyboardInterrupt again, as well as the cancellation of this task and the closing of its coroutine.

    Attributes:
        failure: Exception that escaped, if any.
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
        if isinstance(error, GeneratorExit):  # the code that closes a coroutine is not the task that runs it
            return self._task is None or _current_task() is not self._task
        return isinstance(error, KeyboardInterrupt)


def sentence(error: BaseException) -> str:
    """The message of an exception, preceded by its type unless that is ours."""
    if isinstance(error, asyncio.CancelledError):
        return "something it waited for was cancelled"
    said = text_of(error)
    return said if isinstance(error, EpisodeError) else f"{type(error).__name__}: {said}"


def text_of(error: BaseException) -> str:
    """The message of an exception, whose `__str__` may be other people's code and may fail too."""
    with Boundary() as boundary:
        return str(error)
    return f"(its message can't be shown: {type(boundary.failure).__name__} in __str__)"


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs
        return None


def log_failure(environment: str, kind: str, error: BaseException) -> None:
    """Log a failure with its traceback: the first of its kind as a warning, since no failure is silent."""
    first = (environment, kind, type(error)) not in _logged
    _logged.add((environment, kind, type(error)))
    more = "; later ones like it are logged at the level DEBUG" if first else ""
    level = logging.WARNING if first else logging.DEBUG
    _log.log(level, "an episode of %s broke in %s%s", environment, kind, more, exc_info=error)


_logged: set[tuple[str, str, type[BaseException]]] = set()
