"""The box: the processes inside a session, from the server to the interpreter of its cells.

Its modules need only the standard library and `kernel`, since they run in forks of a zygote and in containers.
Elsewhere only `frames` is imported, which works on any platform.
"""

from gym_core.processes.sessions.box.frames import CELL_BYTES, FILE_BYTES, LENGTHS, encode

_NAMES = ("frames", "files", "poller", "processes", "interpreter", "jobs", "server", "container")
BOX_SOURCES = [f"{__name__}.{name}" for name in _NAMES]
"""The names of the modules, each after those that it imports; the last one serves a box in a container."""

__all__ = ["BOX_SOURCES", "CELL_BYTES", "FILE_BYTES", "LENGTHS", "encode"]
