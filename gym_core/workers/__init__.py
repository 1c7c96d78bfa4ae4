"""Workers: killable child processes, for functions that can hang or that run text a model wrote."""

from gym_core.workers.pool import Workers, shared_workers

__all__ = ["Workers", "shared_workers"]
