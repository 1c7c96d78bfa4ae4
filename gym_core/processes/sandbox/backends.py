"""Back ends, which start the process of a run and isolate it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from gym_core.processes.kernel import BOX
from gym_core.processes.zygote import Child, End, Zygote

ENV = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # the same code gives the same verdict
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
BOX_ENV = {"HOME": BOX, "TMPDIR": BOX}
_SERVE = "gym_core.processes.sessions.box.server:serve"
_PLAY = "gym_core.processes.sandbox.child:play_forked"


class Started(Protocol):
    """A run under way, for one thread."""

    @property
    def pid(self) -> int | None:
        """The process whose tree is the run; None if this machine's kernel does not show it."""

    def fileno(self) -> int:
        """A descriptor that becomes readable when the run has ended."""

    def kill(self) -> None:
        """Kill the run with all its processes; it then ends."""

    def end(self) -> End:
        """How it ended; called once, afterwards."""

    def close(self) -> None:
        """Kill the run if it has not ended, and free its resources."""


class Backend(Protocol):
    """Isolates runs; for any thread.

    From standard input, a run reads the header for `child.read_header`, and then its own input.
    """

    tells_start: bool  # on standard error, by `child.STARTED`

    def start(self, stdin: int, stdout: int, stderr: int, *, limits: Mapping[str, float]) -> Started:
        """Start a run; the caller keeps its descriptors.

        Raises:
            WorkerLostError: The run can't be started.
        """

    def is_alive(self) -> bool:
        """Whether it can start runs."""

    def close(self) -> None:
        """End all runs."""


class Forks:
    """Forks runs from a zygote that has imported the modules.

    Attributes:
        opens_boxes: Whether it isolates, and can therefore open the boxes of sessions.

    Raises:
        RefusedError: The zygote could not be isolated.
        WorkerLostError: The zygote could not import a module.
    """

    tells_start = False

    def __init__(self, modules: Sequence[str], *, isolate: bool, disk_bytes: int) -> None:
        self.opens_boxes = isolate
        env = {**ENV, **BOX_ENV} if isolate else ENV
        self._zygote = Zygote([_PLAY, _SERVE], modules, isolate=isolate, box_bytes=disk_bytes, env=env)

    def start(self, stdin: int, stdout: int, stderr: int, *, limits: Mapping[str, float]) -> Child:
        return self._zygote.fork(_PLAY, None, [stdin, stdout, stderr], limits=limits)

    def open_box(self, settings: Mapping[str, Any], channel: int) -> Child:
        """Start the server of a session, which talks through a socket; the caller keeps the socket."""
        return self._zygote.fork(_SERVE, settings, [channel, channel], limits=settings["limits"])

    def is_alive(self) -> bool:
        return self._zygote.is_alive()

    def close(self) -> None:
        self._zygote.close()
