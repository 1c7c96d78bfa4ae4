"""The sandbox: model-written Python, isolated from the machine and from every other run.

Whose fault it is. An exception, an exit status, a limit and a signal are the code's, and told by `Ran`. A run that was
killed by the kernel for want of memory, or by an outsider, or that a busy machine kept from a core, is the machine's,
and a `WorkerLostError`. With namespaces that is certain: the first process of a run can be killed from outside only, it
can't change its limits, and all its processes are looked at together. Back ends that are programs count the kernel's
kills for want of memory on the whole machine, so that another process may have been meant. Isolation "none" can't tell
a program that kills itself from one that was killed.

What is not promised. The kernel is shared: a bug of it that the allowed calls reach is a way out. The memory of all
processes of a run together is looked at a few times a second, so that for as long it can be `PROCESSES` times as much;
and sockets and pipes may hold some hundred kilobytes of the kernel's for each of the `OPEN_FILES` of each process. The
system's programs, the standard library and the imported packages can be read; nothing of them should be an answer. File
locks seem to be granted, always. What isolation "none" promises is the limits, and those only against code that does
not work against them.
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
