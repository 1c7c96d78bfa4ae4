"""Namespaces of an isolated zygote and of the processes it forks, and the few files that these can see."""

import importlib
import os
import shutil
import signal
import socket
import sys
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gym_core.processes.kernel import calls
from gym_core.processes.kernel.filter import system_call_filter

BOX = "/box"
"""The only directory that a run can write to: its current one, in memory."""

_NOBODY = 65534  # not root, whose processes no limit would count
_RUN_ID = 1000
_RUN_NAMESPACES = calls.CLONE_NEWUSER | calls.CLONE_NEWNS | calls.CLONE_NEWNET | calls.CLONE_NEWIPC | calls.CLONE_NEWUTS
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/etc/ld.so.cache")


@dataclass(frozen=True)
class Host:
    """The parts of the host that the zygote keeps to isolate its runs; no run gets any of them.

    Attributes:
        proc: Descriptor of the host's /proc.
        pid_namespace: Descriptor of the zygote's own pid namespace.
        run_as: User of the runs, as the zygote's user namespace numbers it.
        call_filter: Filter of system calls.
    """

    proc: int
    pid_namespace: int
    run_as: int
    call_filter: bytes


def enter_namespaces() -> Host:
    """Continue as the first process of new user, pid and mount namespaces; the original process only waits.

    Raises:
        OSError: Namespaces are not permitted here.
    """
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    call_filter = system_call_filter()
    is_root = os.geteuid() == 0
    nobody = f"\n1 {_NOBODY} 1" if is_root else ""
    users, groups = f"0 {os.geteuid()} 1{nobody}", f"0 {os.getegid()} 1{nobody}"
    begin_read, begin = os.pipe()
    mapper = os.fork()  # more than one user can be mapped only from outside
    if mapper == 0:
        os.close(begin)
        os.read(begin_read, 1)
        with suppress(OSError):
            _write_maps(proc, f"{os.getppid()}", users, groups, deny_groups=not is_root)
            os._exit(0)
        os._exit(1)
    calls.unshare(calls.CLONE_NEWUSER | calls.CLONE_NEWNS | calls.CLONE_NEWPID)
    os.close(begin)
    os.close(begin_read)
    if os.waitpid(mapper, 0)[1]:
        raise OSError("the users of a new user namespace could not be mapped")
    zygote = os.fork()
    if zygote:
        os.waitpid(zygote, 0)
        os._exit(0)
    calls.die_with_parent(signal.SIGKILL)
    return Host(proc, os.open("self/ns/pid", os.O_RDONLY, dir_fd=proc), int(is_root), call_filter)


def isolate_run(host: Host, disk_bytes: int) -> None:
    """Move a forked run, which is already in a pid namespace, into its other namespaces and its box."""
    if host.run_as:
        os.setgroups([])
        os.setresgid(host.run_as, host.run_as, host.run_as)
        os.setresuid(host.run_as, host.run_as, host.run_as)
        calls.own_proc_files()
    users, groups = f"{_RUN_ID} {os.geteuid()} 1", f"{_RUN_ID} {os.getegid()} 1"
    calls.unshare(_RUN_NAMESPACES)
    _write_maps(host.proc, "self", users, groups, deny_groups=True)
    os.close(host.proc)
    socket.sethostname("sandbox")
    options = f"size={disk_bytes},nr_inodes=4096,mode=700"
    calls.mount("tmpfs", BOX, "tmpfs", calls.MS_NOSUID | calls.MS_NODEV, options)
    os.chdir(BOX)
    calls.drop_capabilities()


def hide_host() -> None:
    """Keep only what runs may see: the system's programs, the standard library, and the packages imported so far."""
    hidden, packages, interpreter = _site_directories(), _imported_packages(), _interpreter_files()
    calls.mount("none", "/", None, calls.MS_REC | calls.MS_PRIVATE)
    calls.mount("tmpfs", "/tmp", "tmpfs", calls.MS_NOSUID | calls.MS_NODEV, "size=64m,mode=755")
    os.mkdir("/tmp/old")
    calls.pivot_root("/tmp", "/tmp/old")
    os.chdir("/")
    for path in (*_SYSTEM, *DEVICES, sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")):
        _show(path)
    for path in hidden:
        if os.path.isdir(path):
            calls.mount("tmpfs", path, "tmpfs", calls.MS_NOSUID | calls.MS_NODEV, "size=64m,mode=755")
    for path in (*packages, *interpreter):
        _show(path)
    os.mkdir(BOX)
    if not os.path.exists("/tmp"):
        os.symlink(BOX, "/tmp")
    calls.detach("/old")
    os.rmdir("/old")
    calls.make_read_only("/")
    sys.path[:] = [path for path in sys.path if os.path.exists(path)]
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()


def _site_directories() -> set[str]:
    """The directories of installed packages, which may include the caller's own, with answers."""
    library = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    sites = {os.path.abspath(path) for path in sys.path if os.path.isdir(path)}
    sites |= {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    sites |= {f"{path}/site-packages" for path in library}
    return {path for path in sites if path not in library and os.path.basename(path) != "lib-dynload"}


def _interpreter_files() -> list[str]:
    """The files that commands need to start this interpreter and the scripts of its packages."""
    paths, path = [], sys.executable
    while os.path.islink(path):
        paths.append(path)
        path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
    library = os.path.join(sys.base_prefix, "lib", str(sysconfig.get_config_var("INSTSONAME")))
    scripts = os.path.dirname(sys.executable)
    return [scripts, os.path.join(os.path.dirname(scripts), "pyvenv.cfg"), *paths, path, library]


def _imported_packages() -> set[str]:
    """The files of the imported modules: installed packages as a whole, and only the modules of any other package.

    The caller's own packages may have answers beside their code.
    """
    packages, sites = set(), _site_directories()
    for module in list(sys.modules.values()):
        file: str = getattr(module, "__file__", None) or ""
        around = [site for site in sites if file and Path(file).is_relative_to(site)]
        if not around:
            continue
        site = max(around, key=len)  # the innermost: a project's own directory may hold the environment too
        if os.path.basename(site) not in ("site-packages", "dist-packages"):
            packages.add(file)
            continue
        top = Path(site, Path(file).relative_to(site).parts[0])
        libraries = Path(site, f"{top.name}.libs")  # wheels keep their shared libraries here
        packages |= {str(top)} | ({str(libraries)} if libraries.exists() else set())
    return packages


def _show(path: str) -> None:
    """Bind a path of the old root, or copy it if it is a link, unless it is there already."""
    old = "/old" + path
    if os.path.lexists(path) or not os.path.lexists(old):
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.islink(old):
        os.symlink(os.readlink(old), path)
        return
    if os.path.isdir(old):
        os.mkdir(path)
    else:
        if path.endswith(".py"):  # one mount each would slow down every further namespace
            shutil.copyfile(old, path)
            return
        os.close(os.open(path, os.O_CREAT))
    calls.mount(old, path, None, calls.MS_BIND | calls.MS_REC)


def _write_maps(proc: int, process: str, users: str, groups: str, *, deny_groups: bool) -> None:
    for name, text in (("setgroups", "deny" if deny_groups else ""), ("uid_map", users), ("gid_map", groups)):
        if text:
            descriptor = os.open(f"{process}/{name}", os.O_WRONLY, dir_fd=proc)
            os.write(descriptor, text.encode())
            os.close(descriptor)
