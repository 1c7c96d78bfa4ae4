"""The filter of system calls that model-written code may use."""

import errno
import platform
import struct

# What Python, a shell and their usual programs need, and no more: "name x86_64 aarch64" (Linux 6.12,
# arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h). Beside the doors to the kernel and to
# other processes, it leaves out what
# - holds memory that no limit counts: memfd_create, shmget, semget, msgget, mq_open, io_setup, io_uring_setup, add_key,
#   inotify_init, fanotify_init, timer_create, timerfd_create, signalfd, vmsplice, mlock; listen and accept, as what is
#   sent to a listening socket outlives its sender; setsockopt, which sets the size of buffers;
# - changes limits or the share of a core, by which a slow machine is told from slow code: setrlimit, setpriority,
#   sched_setscheduler, sched_setattr, sched_setaffinity, sync.
_ALLOWED = """
read 0 63, write 1 64, open 2 -, close 3 57, stat 4 -, fstat 5 80, lstat 6 -, poll 7 -, lseek 8 62
mmap 9 222, mprotect 10 226, munmap 11 215, brk 12 214, rt_sigaction 13 134, rt_sigprocmask 14 135
rt_sigreturn 15 139, pread64 17 67, pwrite64 18 68, readv 19 65, writev 20 66, access 21 -, pipe 22 -
select 23 -, sched_yield 24 124, mremap 25 216, msync 26 227, mincore 27 232, madvise 28 233, dup 32 23
dup2 33 -, pause 34 -, nanosleep 35 101, getitimer 36 102, alarm 37 -, setitimer 38 103, getpid 39 172
sendfile 40 71, connect 42 203, sendto 44 206, recvfrom 45 207, sendmsg 46 211, recvmsg 47 212
shutdown 48 210, bind 49 200, getsockname 51 204, getpeername 52 205, getsockopt 55 209, fork 57 -
vfork 58 -, execve 59 221, exit 60 93, wait4 61 260, kill 62 129, uname 63 160, flock 73 32, fsync 74 82
fdatasync 75 83, truncate 76 45, ftruncate 77 46, getdents 78 -, getcwd 79 17, chdir 80 49, fchdir 81 50
rename 82 -, mkdir 83 -, rmdir 84 -, creat 85 -, link 86 -, unlink 87 -, symlink 88 -, readlink 89 -
chmod 90 -, fchmod 91 52, chown 92 -, fchown 93 55, lchown 94 -, umask 95 166, gettimeofday 96 169
getrlimit 97 163, getrusage 98 165, sysinfo 99 179, times 100 153, getuid 102 174, getgid 104 176
setuid 105 146, setgid 106 144, geteuid 107 175, getegid 108 177, setpgid 109 154, getppid 110 173
getpgrp 111 -, setsid 112 157, setreuid 113 145, setregid 114 143, getgroups 115 158, setresuid 117 147
getresuid 118 148, setresgid 119 149, getresgid 120 150, getpgid 121 155, setfsuid 122 151, setfsgid 123 152
getsid 124 156, capget 125 90, rt_sigpending 127 136, rt_sigtimedwait 128 137, rt_sigsuspend 130 133
sigaltstack 131 132, utime 132 -, mknod 133 -, statfs 137 43, fstatfs 138 44, getpriority 140 141
sched_getparam 143 121, sched_getscheduler 145 120, sched_get_priority_max 146 125
sched_get_priority_min 147 126, sched_rr_get_interval 148 127, arch_prctl 158 -, gettid 186 178
getxattr 191 8, lgetxattr 192 9, fgetxattr 193 10, listxattr 194 11, llistxattr 195 12, flistxattr 196 13
tkill 200 130, time 201 -, futex 202 98, sched_getaffinity 204 123, epoll_create 213 -, getdents64 217 61
set_tid_address 218 96, restart_syscall 219 128, fadvise64 221 223, clock_gettime 228 113
clock_getres 229 114, clock_nanosleep 230 115, exit_group 231 94, epoll_wait 232 -, epoll_ctl 233 21
tgkill 234 131, utimes 235 -, get_mempolicy 239 236, waitid 247 95, openat 257 56, mkdirat 258 34
mknodat 259 33, fchownat 260 54, futimesat 261 -, newfstatat 262 79, unlinkat 263 35, renameat 264 38
linkat 265 37, symlinkat 266 36, readlinkat 267 78, fchmodat 268 53, faccessat 269 48, pselect6 270 72
ppoll 271 73, set_robust_list 273 99, get_robust_list 274 100, utimensat 280 88, epoll_pwait 281 22
eventfd 284 -, fallocate 285 47, eventfd2 290 19, epoll_create1 291 20, dup3 292 24, pipe2 293 59
preadv 295 69, pwritev 296 70, recvmmsg 299 243, sendmmsg 307 269, getcpu 309 168, renameat2 316 276
getrandom 318 278, execveat 322 281, membarrier 324 283, copy_file_range 326 285, preadv2 327 286
pwritev2 328 287, statx 332 291, rseq 334 293, pidfd_send_signal 424 424, pidfd_open 434 434
close_range 436 436, openat2 437 437, faccessat2 439 439, epoll_pwait2 441 441, futex_waitv 449 449
fchmodat2 452 452
"""
_CLONE, _CLONE3, _SOCKET, _SOCKETPAIR, _TIMER_CREATE = (56, 220), 435, (41, 198), (53, 199), (222, 107)
_FCNTL, _IOCTL, _PRCTL, _PRLIMIT64 = (72, 25), (16, 29), (157, 167), (302, 261)
_MACHINES = {"x86_64": (0, 0xC000_003E), "aarch64": (1, 0xC000_00B7)}  # column of the numbers, AUDIT_ARCH_*
_LAST = 452  # newer calls are unknown here; programs do without calls that seem not to exist
_CLONE_ANY_NEW = 0x7E02_0000
_AF_UNIX, _SOCK_TYPES, _STREAM, _SEQPACKET = 1, 0xF, 1, 5  # datagrams outlive their sender too

# F_DUPFD to F_SETFL, F_GETLK, F_DUPFD_CLOEXEC, F_GETPIPE_SZ, F_ADD_SEALS and F_GET_SEALS; not F_SETPIPE_SZ.
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 5, 1030, 1032, 1033, 1034)
# F_SETLK, F_SETLKW and their OFD variants seem to succeed: the kernel would keep any number of locks, and databases
# need some.
_FCNTL_LOCKS = (6, 7, 37, 38)
# TCGETS, TCSETS to TCSETSF, TIOCGPGRP, TIOCSPGRP, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX.
_IOCTL_REQUESTS = (0x5401, 0x5402, 0x5403, 0x5404, 0x540F, 0x5410, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# PR_SET_PDEATHSIG to PR_SET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_GET_SECCOMP, PR_CAPBSET_READ, PR_SET_TIMERSLACK,
# PR_GET_TIMERSLACK, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_SET_THP_DISABLE, PR_SET_VMA.
_PRCTL_OPTIONS = (1, 2, 3, 4, 15, 16, 21, 23, 29, 30, 36, 38, 39, 41, 0x53564D41)

_LOAD, _AND, _EQUAL, _GREATER, _AT_LEAST, _ANY_BIT, _GIVE = 0x20, 0x54, 0x15, 0x25, 0x35, 0x45, 0x06
_ALLOW, _ERROR, _KILL = 0x7FFF_0000, 0x0005_0000, 0x8000_0000  # SECCOMP_RET_*
_REFUSE = _ERROR | errno.EPERM
_SEEM_DONE = _ERROR | 0

_Instruction = tuple[int, int, int, int]
"""Code, jumps for a true and a false comparison, and operand."""


def system_call_filter() -> bytes:
    """The BPF program that allows the calls listed here; any other call fails with EPERM.

    Raises:
        OSError: The machine is neither x86_64 nor aarch64.
    """
    machine = platform.machine()
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, f"system calls are known for {', '.join(_MACHINES)}, not for {machine}")
    column, architecture = _MACHINES[machine]
    program = [_load(4), (_EQUAL, 1, 0, architecture), _give(_KILL), _load(0)]
    for first, last in _ranges(column):
        program += [(_AT_LEAST, 0, 2, first), (_GREATER, 1, 0, last), _give(_ALLOW)]
    fcntl = dict.fromkeys(_FCNTL_COMMANDS, _ALLOW) | dict.fromkeys(_FCNTL_LOCKS, _SEEM_DONE)
    sockets = dict.fromkeys((_STREAM, _SEQPACKET), _ALLOW)
    unix = [_argument(0), (_EQUAL, 1, 0, _AF_UNIX), _give(_REFUSE)]
    no_limit = [_argument(2), (_EQUAL, 1, 0, 0), _give(_REFUSE), (_LOAD, 0, 0, 36), (_EQUAL, 1, 0, 0), _give(_REFUSE)]
    program += _if(_FCNTL[column], _choice(1, fcntl))
    program += _if(_IOCTL[column], _choice(1, dict.fromkeys(_IOCTL_REQUESTS, _ALLOW), other=_ERROR | errno.ENOTTY))
    program += _if(_PRCTL[column], _choice(0, dict.fromkeys(_PRCTL_OPTIONS, _ALLOW)))
    program += _if(_SOCKET[column], [*unix, *_choice(1, sockets, mask=_SOCK_TYPES)])
    program += _if(_SOCKETPAIR[column], _choice(1, sockets, mask=_SOCK_TYPES))
    program += _if(_PRLIMIT64[column], [*no_limit, _give(_ALLOW)])
    program += _if(_CLONE[column], [_argument(0), (_ANY_BIT, 1, 0, _CLONE_ANY_NEW), _give(_ALLOW), _give(_REFUSE)])
    # The flags of clone3 are in memory, where no filter sees them; glibc then uses clone, and `timeout` an alarm.
    for missing in (_CLONE3, _TIMER_CREATE[column]):
        program += _if(missing, [_give(_ERROR | errno.ENOSYS)])
    program += [(_GREATER, 1, 0, _LAST), _give(_REFUSE), _give(_ERROR | errno.ENOSYS)]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


def _ranges(column: int) -> list[tuple[int, int]]:
    """The allowed numbers as pairs of the first and last number of each range."""
    columns = [entry.split()[1 + column] for entry in _ALLOWED.replace("\n", ",").split(",") if entry.strip()]
    ranges: list[tuple[int, int]] = []
    for number in sorted(int(number) for number in columns if number != "-"):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges


def _if(number: int, body: list[_Instruction]) -> list[_Instruction]:
    return [(_EQUAL, 0, len(body), number), *body]


def _choice(
    argument: int, actions: dict[int, int], *, mask: int = 0xFFFF_FFFF, other: int = _REFUSE
) -> list[_Instruction]:
    """The result for each value of an argument."""
    program = [_argument(argument), (_AND, 0, 0, mask)]
    for value, action in actions.items():
        program += [(_EQUAL, 0, 1, value), _give(action)]
    return [*program, _give(other)]


def _argument(index: int) -> _Instruction:
    """Load the low half of an argument."""
    return _load(16 + 8 * index)


def _load(offset: int) -> _Instruction:
    """Load a word of struct seccomp_data."""
    return _LOAD, 0, 0, offset


def _give(action: int) -> _Instruction:
    return _GIVE, 0, 0, action
