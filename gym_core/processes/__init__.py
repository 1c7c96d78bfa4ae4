"""What can be killed: functions, programs and environments in child processes."""

from gym_core.processes.sandbox import (
    Backend,
    Command,
    Docker,
    End,
    Isolation,
    Limit,
    Ran,
    Sandbox,
    Started,
    isolation_problem,
    shared_sandbox,
)
from gym_core.processes.workers import Workers, shared_workers
from gym_core.processes.zygote import missing

__all__ = [
    "Backend",
    "Command",
    "Docker",
    "End",
    "Isolation",
    "Limit",
    "Ran",
    "Sandbox",
    "Started",
    "Workers",
    "isolation_problem",
    "missing",
    "shared_sandbox",
    "shared_workers",
]
