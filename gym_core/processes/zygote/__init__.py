"""The zygote: a clean interpreter that forks processes, each of which can be killed with everything it starts."""

from gym_core.processes.zygote.child import Child, End
from gym_core.processes.zygote.client import RefusedError, Zygote, import_path
from gym_core.processes.zygote.environment import allowed_environment
from gym_core.processes.zygote.forks import forget_in_forks
from gym_core.processes.zygote.platform import missing
from gym_core.processes.zygote.spawner import Spawned, Spawner, Waiter

__all__ = [
    "Child",
    "End",
    "RefusedError",
    "Spawned",
    "Spawner",
    "Waiter",
    "Zygote",
    "allowed_environment",
    "forget_in_forks",
    "import_path",
    "missing",
]
