"""The sandbox: model-written Python, isolated from the machine and from every other run.

Who is to blame. The code is to blame for an exception, an exit status, a limit and a signal; `Ran` reports them. The
machine is to blame for a run that the kernel killed for lack of memory, that an outsider killed, or that a busy machine
kept from a core; these raise `WorkerLostError`. With namespaces this is certain: the first process of a run can be
killed only from outside, it can't change its limits, and all its processes are observed together. Back ends that are
programs count the kernel's out-of-memory kills on the whole machine, so another process may have been the victim.
Isolation "none" can't tell a program that kills itself from one that was killed.

Not guaranteed. The kernel is shared: a bug that the allowed calls can reach is a way out. The memory of all processes
of a run together is checked a few times per second; in between it can be `PROCESSES` times as much. Sockets and pipes
may hold some hundred kilobytes of kernel memory for each of the `OPEN_FILES` of each process. The system's programs,
the standard library and the imported packages can be read; none of them should contain an answer. File locks always
seem to be granted. Isolation "none" only keeps limits, and only against code that does not work around them.
"""

from gym_core.processes.sandbox.backends import Backend, Started
from gym_core.processes.sandbox.docker import Docker
from gym_core.processes.sandbox.programs import Command
from gym_core.processes.sandbox.runs import Sandbox
from gym_core.processes.sandbox.shared import shared_sandbox
from gym_core.processes.sandbox.ways import Isolation, isolation_problem
from gym_core.processes.zygote import End

__all__ = [
    "Backend",
    "Command",
    "Docker",
    "End",
    "Isolation",
    "Sandbox",
    "Started",
    "isolation_problem",
    "shared_sandbox",
]
