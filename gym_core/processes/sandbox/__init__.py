"""The sandbox: model-written Python, isolated from the machine and from every other run.

What counts as whose fault: an exception, an exit status and a limit are the code's, and are told by `Ran`; a run that
was lost, killed from outside, or kept from the processor is the machine's, and is a `WorkerLostError`.

What is not promised. The kernel is shared: a bug of it that the filtered calls reach is a way out. Memory and CPU
seconds are limited for each process of a run, of which there are at most `PROCESSES`, since a limit on their sum takes
cgroups. Where the kernel's memory killer ends a run, the run is lost, not at fault. The system's programs, the standard
library and the imported packages can be read; nothing of them should be an answer. What isolation "none" promises is
the limits, and those only against code that does not work against them.
"""

from gym_core.processes.sandbox.backends import Backend, Started
from gym_core.processes.sandbox.docker import Docker
from gym_core.processes.sandbox.programs import Command
from gym_core.processes.sandbox.runs import Isolation, Sandbox, isolation_problem, shared_sandbox
from gym_core.processes.sandbox.watch import Limit, Ran
from gym_core.processes.zygote import End

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
    "isolation_problem",
    "shared_sandbox",
]
