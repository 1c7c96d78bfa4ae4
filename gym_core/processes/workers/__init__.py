"""Workers: child processes that can be killed, for trusted functions that can hang."""

from gym_core.processes.workers.pool import Workers, shared_workers

__all__ = ["Workers", "shared_workers"]
