"""Calls of the Linux kernel that Python lacks: namespaces, mounts, capabilities and the filter of system calls."""

import ctypes
import errno
import functools
import os
import platform
import struct

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x4_0000
_MNT_DETACH = 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_ATTR_READONLY_NOSUID = 0x3
_PDEATHSIG, _SET_SECCOMP, _NO_NEW_PRIVS, _SET_DUMPABLE, _SET_CHILD_SUBREAPER = 1, 22, 38, 4, 36
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MOUNT_SETATTR = 442


def unshare(flags: int) -> None:
    """Move into new namespaces; the next child is the first process of a new pid namespace."""
    _call("unshare", flags)


def set_pid_namespace(descriptor: int) -> None:
    """Put future children into a pid namespace."""
    _call("setns", descriptor, CLONE_NEWPID)


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """Mount a file system, or bind a path when the flags say so."""
    kind_bytes = kind.encode() if kind else None
    _call("mount", os.fsencode(source), os.fsencode(target), kind_bytes, ctypes.c_ulong(flags), options.encode())


def make_read_only(path: str) -> None:
    """Make a mount and all mounts below it read-only, without set-user-id programs; Linux 5.12."""
    attributes = struct.pack("QQQQ", _ATTR_READONLY_NOSUID, 0, 0, 0)
    size = ctypes.c_size_t(len(attributes))
    _call("syscall", _MOUNT_SETATTR, _AT_FDCWD, os.fsencode(path), _AT_RECURSIVE, attributes, size)


def pivot_root(new: str, put_old: str) -> None:
    """Swap the root directory."""
    if platform.machine() not in _PIVOT_ROOT:
        raise OSError(errno.ENOSYS, f"system calls are known for x86_64 and aarch64, not for {platform.machine()}")
    _call("syscall", _PIVOT_ROOT[platform.machine()], os.fsencode(new), os.fsencode(put_old))


def detach(path: str) -> None:
    """Unmount a tree, even if it is in use."""
    _call("umount2", os.fsencode(path), _MNT_DETACH)


def die_with_parent(signal: int) -> None:
    """Let the kernel signal this process when its parent ends, which must have one thread."""
    _prctl(_PDEATHSIG, signal)


def adopt_orphans() -> None:
    """Become the parent of the processes that descendants leave behind; prctl(2), PR_SET_CHILD_SUBREAPER."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def own_proc_files() -> None:
    """Make /proc/self writable by this process again, which changing the user id has ended."""
    _prctl(_SET_DUMPABLE, 1)


def guard_memory() -> None:
    """Hide this process's memory and files under /proc from its user's other processes, until it executes a program."""
    _prctl(_SET_DUMPABLE, 0)


def drop_capabilities() -> None:
    """Give up all capabilities for good: no executed program brings any back."""
    _prctl(_NO_NEW_PRIVS, 1)
    _call("capset", struct.pack("Ii", 0x2008_0522, 0), struct.pack("6I", *[0] * 6))


def filter_system_calls(program: bytes) -> None:
    """Put a filter on this process and everything it will start, for good."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HL", len(program) // 8, ctypes.addressof(buffer))
    _call("prctl", _SET_SECCOMP, ctypes.c_ulong(2), header)


def _prctl(option: int, value: int) -> None:
    _call("prctl", option, *[ctypes.c_ulong(number) for number in (value, 0, 0, 0)])


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc(), name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
