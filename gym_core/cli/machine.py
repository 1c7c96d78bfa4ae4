"""The machine: which features work on it, and why the others don't."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from gym_core import processes
from gym_core.errors import WorkerError

_DOCKER_S = 10
_SETTINGS = {
    "sys/kernel/unprivileged_userns_clone": ("0", "the sysctl kernel.unprivileged_userns_clone is 0"),
    "sys/user/max_user_namespaces": ("0", "the sysctl user.max_user_namespaces is 0"),
    "sys/kernel/apparmor_restrict_unprivileged_userns": (
        "1",
        "the sysctl kernel.apparmor_restrict_unprivileged_userns is 1",
    ),
}
"""Kernel settings below /proc that forbid namespaces, with the forbidding value."""


@dataclass(frozen=True)
class Fact:
    """A feature that works here, or doesn't.

    Attributes:
        name: Name of the feature.
        text: Whether it works and, if not, why.
        is_fault: Whether it is broken although it should work on every machine.
    """

    name: str
    text: str
    is_fault: bool = False


def find_facts() -> list[Fact]:
    """Everything about this machine that decides what works."""
    isolations = {"namespaces": _namespaces_problem(), "bubblewrap": processes.isolation_problem("bubblewrap")}
    used = next((way for way, problem in isolations.items() if problem is None), None)
    broken = asyncio.run(_workers_problem())
    lacking = processes.missing()
    start = f"started one by one, since this system lacks {lacking}" if lacking else "forked from a zygote"
    return [
        Fact("system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        Fact("Python", f"{platform.python_version()} ({platform.python_implementation()})"),
        Fact("processors", _processors()),
        Fact("cgroups", _cgroups()),
        Fact("child processes", f"no: {broken}" if broken else f"work, {start}", is_fault=broken is not None),
        *(Fact(way, "work" if problem is None else f"no: {problem}") for way, problem in isolations.items()),
        Fact("sandbox", f"isolates by {used}" if used else "refuses to run; Docker is the other way to isolate"),
        Fact("Docker", _docker()),
    ]


def _namespaces_problem() -> str | None:
    problem = processes.isolation_problem("namespaces")
    causes = "; ".join(namespace_causes()) if problem else ""
    return f"{problem} ({causes})" if causes else problem


async def _workers_problem() -> str | None:
    workers = processes.Workers(size=1)
    try:
        result = await workers.call("math:gcd", 12, 18)
    except (WorkerError, OSError) as error:
        return str(error)
    finally:
        workers.close()
    return None if result == 6 else f"gcd(12, 18) is {result}"


def namespace_causes(proc: Path = Path("/proc")) -> list[str]:
    """Possible causes of forbidden namespaces: kernel settings, or the filter of a container.

    Args:
        proc: Mount point of the proc file system.
    """
    causes = []
    for path, (forbidding, cause) in _SETTINGS.items():
        file = proc / path
        if file.exists() and file.read_text().strip() == forbidding:
            causes.append(cause)
    status = proc / "self/status"
    if status.exists() and "\nSeccomp:\t2" in status.read_text():
        causes.append(
            "a seccomp filter is set, as containers have one; Docker drops it by --security-opt seccomp=unconfined"
        )
    return causes


def _processors() -> str:
    count = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else count
    limit = _cgroup_value("cpu.max").split()
    quota = f", at most {int(limit[0]) / int(limit[1]):g} by cgroup" if limit and limit[0] != "max" else ""
    return f"{usable} of {count}{quota}"


def _cgroups() -> str:
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return "version 1, which limits nothing here" if Path("/sys/fs/cgroup/memory").exists() else "none"
    memory = _cgroup_value("memory.max")
    limit = f", memory limited to {int(memory) / 2**30:.1f} GiB" if memory not in ("", "max") else ""
    own = "writable" if os.access(_own_cgroup(), os.W_OK) else "not writable"
    return f"version 2, {own}{limit}"


def _cgroup_value(name: str) -> str:
    file = _own_cgroup() / name
    return file.read_text().strip() if file.exists() else ""


def _own_cgroup() -> Path:
    root, own = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
    lines = own.read_text().splitlines() if own.exists() else []
    path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")
    folder = root / path.lstrip("/")
    return folder if folder.exists() else root  # a container sees its own cgroup as the root


def _docker() -> str:
    program = shutil.which("docker")
    if program is None:
        return "no: docker is not installed"
    command = [program, "version", "--format", "{{.Server.Version}}"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=_DOCKER_S, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no: {error}"
    if ran.returncode:
        return f"no: {(ran.stderr.strip().splitlines() or ['docker failed'])[-1]}"
    return f"works, version {ran.stdout.strip()}"
