"""Kernel calls that Python lacks: namespaces, mounts, capabilities and the filter of system calls."""

import ctypes
import errno
import os
import platform
import struct

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000
_CLONE_ANY_NEW = 0x7E02_0000

MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x4_0000
_MNT_DETACH = 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_ATTR_READONLY_NOSUID = 0x3
_PDEATHSIG, _SET_SECCOMP, _NO_NEW_PRIVS, _SET_DUMPABLE, _SET_CHILD_SUBREAPER = 1, 22, 38, 4, 36

# System call numbers of x86_64 and aarch64 (Linux 6.12, arch/x86/entry/syscalls/syscall_64.tbl and
# include/uapi/asm-generic/unistd.h).
_NUMBERS = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "unshare": (272, 97),
    "setns": (308, 268),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "syslog": (103, 116),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282),
    # Memory of these belongs to no address space, so that no limit of a process would count it.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
}
_CLONE, _CLONE3, _SOCKET, _MOUNT_SETATTR = (56, 220), (435, 435), (41, 198), 442
_MACHINES = {"x86_64": (0, 0xC000_003E), "aarch64": (1, 0xC000_00B7)}  # column above, AUDIT_ARCH_*
_X32_BIT = 0x4000_0000
_AF_UNIX = 1

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Move into new namespaces; of a new pid namespace, the next child is the first process."""
    _call("unshare", flags)


def set_pid_namespace(descriptor: int) -> None:
    """Have the next children born into a pid namespace."""
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
    column, _ = _machine()
    _call("syscall", _NUMBERS["pivot_root"][column], os.fsencode(new), os.fsencode(put_old))


def detach(path: str) -> None:
    """Unmount a tree, whoever still uses it."""
    _call("umount2", os.fsencode(path), _MNT_DETACH)


def die_with_parent(signal: int) -> None:
    """Have the kernel signal this process when its parent, which must have one thread, ends."""
    _prctl(_PDEATHSIG, signal)


def adopt_orphans() -> None:
    """Become the parent of those that processes started by this one leave behind; prctl(2), PR_SET_CHILD_SUBREAPER."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def own_proc_files() -> None:
    """Make /proc/self writable by this process again, which changing the user id has ended."""
    _prctl(_SET_DUMPABLE, 1)


def drop_capabilities() -> None:
    """Give up all capabilities, for good: no program that is executed brings any back."""
    _prctl(_NO_NEW_PRIVS, 1)
    _call("capset", struct.pack("Ii", 0x2008_0522, 0), struct.pack("6I", *[0] * 6))


def system_call_filter() -> bytes:
    """The BPF program that refuses what no solution needs; each refused call fails with EPERM.

    Namespaces and mounts, debugging, keys, kernel modules and other doors to the kernel; memory that is not counted;
    and sockets other than Unix ones, since vsock is not bound to a network namespace.

    Raises:
        OSError: The machine is neither x86_64 nor aarch64.
    """
    column, architecture = _machine()
    refuse, allow = 0x0005_0000, 0x7FFF_0000  # SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW
    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    first_argument = 16  # of struct seccomp_data: its low half
    program = [
        (load, 0, 0, 4),
        (equal, 1, 0, architecture),
        (give, 0, 0, 0x8000_0000),  # another machine's calls: SECCOMP_RET_KILL_PROCESS
        (load, 0, 0, 0),
        (at_least, 0, 1, _X32_BIT),
        (give, 0, 0, refuse | errno.EPERM),
    ]
    for numbers in _NUMBERS.values():
        program += [(equal, 0, 1, numbers[column]), (give, 0, 0, refuse | errno.EPERM)]
    # Its flags are in memory, where no filter sees them; glibc then uses clone.
    program += [(equal, 0, 1, _CLONE3[column]), (give, 0, 0, refuse | errno.ENOSYS)]
    program += [(equal, 0, 4, _CLONE[column]), (load, 0, 0, first_argument), (any_bit, 0, 1, _CLONE_ANY_NEW)]
    program += [(give, 0, 0, refuse | errno.EPERM), (give, 0, 0, allow)]
    program += [(equal, 0, 3, _SOCKET[column]), (load, 0, 0, first_argument), (equal, 1, 0, _AF_UNIX)]
    program += [(give, 0, 0, refuse | errno.EPERM), (give, 0, 0, allow)]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


def filter_system_calls(program: bytes) -> None:
    """Put a filter on this process and all it will start, for good."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HL", len(program) // 8, ctypes.addressof(buffer))
    _call("prctl", _SET_SECCOMP, ctypes.c_ulong(2), header)


def seal() -> None:
    """Drop all capabilities and filter the system calls."""
    drop_capabilities()
    filter_system_calls(system_call_filter())


def _prctl(option: int, value: int) -> None:
    _call("prctl", option, *[ctypes.c_ulong(number) for number in (value, 0, 0, 0)])


def _machine() -> tuple[int, int]:
    machine = platform.machine()
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, f"system calls are known for {', '.join(_MACHINES)}, not for {machine}")
    return _MACHINES[machine]


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
