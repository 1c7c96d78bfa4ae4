"""Environments in child processes, or wherever else a proxy reaches them."""

from gym_core.processes.environments.factory import in_processes
from gym_core.processes.environments.host import Answer, EnvironmentHost, Hook, HostedEnvironment
from gym_core.processes.environments.proxy import Place, Places, RemoteEnvironment

__all__ = [
    "Answer",
    "EnvironmentHost",
    "Hook",
    "HostedEnvironment",
    "Place",
    "Places",
    "RemoteEnvironment",
    "in_processes",
]
