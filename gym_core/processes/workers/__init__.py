"""Workers: killable child processes, for functions that can hang or that run text a model wrote."""

from gym_core.processes.workers.pool import Workers, shared_workers

__all__ = ["Workers", "shared_workers"]
