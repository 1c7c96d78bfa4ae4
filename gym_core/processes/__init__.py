"""Functions, programs and environments in child processes that can be killed."""

from gym_core.processes.environments import (
    Answer,
    EnvironmentHost,
    Hook,
    HostedEnvironment,
    Place,
    Places,
    RemoteEnvironment,
    in_processes,
)
from gym_core.processes.results import Limit, Ran
from gym_core.processes.sandbox import (
    Backend,
    Command,
    Docker,
    End,
    Isolation,
    Sandbox,
    Started,
    isolation_problem,
    shared_sandbox,
)
from gym_core.processes.sessions import Cell, Session
from gym_core.processes.workers import Workers, shared_workers
from gym_core.processes.zygote import missing

__all__ = [
    "Answer",
    "Backend",
    "Cell",
    "Command",
    "Docker",
    "End",
    "EnvironmentHost",
    "Hook",
    "HostedEnvironment",
    "Isolation",
    "Limit",
    "Place",
    "Places",
    "Ran",
    "RemoteEnvironment",
    "Sandbox",
    "Session",
    "Started",
    "Workers",
    "in_processes",
    "isolation_problem",
    "missing",
    "shared_sandbox",
    "shared_workers",
]
