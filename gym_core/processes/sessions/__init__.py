"""Sessions: boxes for model-written commands, which keep their state over the turns of an episode."""

from gym_core.processes.sessions.box import BOX_SOURCES
from gym_core.processes.sessions.cell import Cell
from gym_core.processes.sessions.connection import Server
from gym_core.processes.sessions.session import Session

__all__ = ["BOX_SOURCES", "Cell", "Server", "Session"]
