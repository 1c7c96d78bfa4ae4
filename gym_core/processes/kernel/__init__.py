"""Kernel features for isolation: namespaces, the filter of system calls, limits and usage.

It needs only the standard library, since processes that see nothing else import it.
"""

from gym_core.processes.kernel.calls import (
    CLONE_NEWPID,
    adopt_orphans,
    die_with_parent,
    drop_capabilities,
    filter_system_calls,
    guard_memory,
    own_proc_files,
    set_pid_namespace,
    unshare,
)
from gym_core.processes.kernel.files import sealed_file
from gym_core.processes.kernel.filter import system_call_filter
from gym_core.processes.kernel.limits import limit_kernel_memory, mapped_bytes, set_limits
from gym_core.processes.kernel.namespaces import BOX, DEVICES, Host, enter_namespaces, hide_host, isolate_run
from gym_core.processes.kernel.ps import PsUsage
from gym_core.processes.kernel.usage import Usage, cpu_s, oom_kills, usage_of

__all__ = [
    "BOX",
    "CLONE_NEWPID",
    "DEVICES",
    "Host",
    "PsUsage",
    "Usage",
    "adopt_orphans",
    "cpu_s",
    "die_with_parent",
    "drop_capabilities",
    "enter_namespaces",
    "filter_system_calls",
    "guard_memory",
    "hide_host",
    "isolate_run",
    "limit_kernel_memory",
    "mapped_bytes",
    "oom_kills",
    "own_proc_files",
    "sealed_file",
    "set_limits",
    "set_pid_namespace",
    "system_call_filter",
    "unshare",
    "usage_of",
]
