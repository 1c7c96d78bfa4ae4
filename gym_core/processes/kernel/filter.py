"""The filter of system calls."""

import errno
import platform
import struct

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
_CLONE, _CLONE3, _SOCKET = (56, 220), (435, 435), (41, 198)
_CLONE_ANY_NEW = 0x7E02_0000
_MACHINES = {"x86_64": (0, 0xC000_003E), "aarch64": (1, 0xC000_00B7)}  # column above, AUDIT_ARCH_*
_X32_BIT = 0x4000_0000
_AF_UNIX = 1


def system_call_filter() -> bytes:
    """The BPF program that refuses what no solution needs; each refused call fails with EPERM.

    Namespaces and mounts, debugging, keys, kernel modules and other doors to the kernel; memory that is not counted;
    and sockets other than Unix ones, since vsock is not bound to a network namespace.

    Raises:
        OSError: The machine is neither x86_64 nor aarch64.
    """
    machine = platform.machine()
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, f"system calls are known for {', '.join(_MACHINES)}, not for {machine}")
    column, architecture = _MACHINES[machine]
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
