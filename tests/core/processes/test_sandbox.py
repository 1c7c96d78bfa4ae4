"""The sandbox: what a run can do, what it can't, and what becomes of it."""

import asyncio
import ctypes
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gym_core.errors import WorkerError, WorkerHungError, WorkerLostError
from gym_core.processes import Command, Isolation, Ran, Sandbox, shared_sandbox

ROOT = str(Path(__file__).parents[3])


def refusal() -> str:
    """Why namespaces are not permitted here; "" where they are."""
    sandbox = Sandbox(isolation="namespaces", size=1)
    try:
        asyncio.run(sandbox.run("pass"))
    except WorkerLostError as error:
        return str(error)
    finally:
        sandbox.close()
    return ""


REFUSAL = refusal()
isolated = pytest.mark.skipif(bool(REFUSAL), reason=f"namespaces are not permitted here: {REFUSAL}")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox(isolation="none" if REFUSAL else "namespaces")
    yield sandbox
    sandbox.close()


async def lines(sandbox: Sandbox, code: str) -> list[str]:
    ran = await sandbox.run(code)
    assert ran.ok, ran
    return ran.stdout.split("\n")[:-1]


def processes_with(mark: str) -> list[int]:
    """Processes with a string in their command line."""
    found = []
    for directory in Path("/proc").iterdir():
        try:
            if directory.name.isdigit() and mark in (directory / "cmdline").read_text(errors="replace"):
                found.append(int(directory.name))
        except OSError:
            continue
    return found


def none_within(seconds: float, mark: str) -> bool:
    deadline = time.monotonic() + seconds
    while processes_with(mark):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


# What becomes of a run.


async def test_a_program_reads_prints_and_ends(sandbox: Sandbox) -> None:
    ran = await sandbox.run("import sys; print(input()); print(2, file=sys.stderr)", stdin="1\n")
    assert (ran.stdout, ran.stderr, ran.exit_status, ran.limit) == ("1\n", "2\n", 0, None)
    assert ran.ok


async def test_an_exception_is_reported_with_the_programs_own_lines(sandbox: Sandbox) -> None:
    ran = await sandbox.run("def f():\n    raise KeyError(1)\nf()")
    assert (ran.exit_status, ran.limit, ran.ok) == (1, None, False)
    assert ran.stderr.startswith('Traceback (most recent call last):\n  File "main.py", line 3, in <module>')
    assert ran.stderr.endswith("KeyError: 1\n")


@pytest.mark.parametrize(
    ("code", "exit_status"),
    [
        ("import sys; sys.exit()", 0),
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit('why')", 1),
        ("import os; os._exit(255)", 255),
        ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV),
        ("this is not Python", 1),
        ("def f(): f()\nf()", 1),
    ],
)
async def test_a_program_ends_by_its_own_status(sandbox: Sandbox, code: str, exit_status: int) -> None:
    ran = await sandbox.run(code)
    assert (ran.exit_status, ran.limit) == (exit_status, None)


async def test_output_at_exit_and_from_threads_is_not_lost(sandbox: Sandbox) -> None:
    code = "import atexit, threading, time\natexit.register(print, 'bye')\n"
    code += "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()"
    assert await lines(sandbox, code) == ["thread", "bye"]


async def test_files_are_there_and_their_paths_stay_inside(sandbox: Sandbox) -> None:
    ran = await sandbox.run(
        "import helper; print(helper.x, open('a/b').read())", files={"helper.py": "x=1", "a/b": "2"}
    )
    assert ran.stdout == "1 2\n"
    for name in ("/etc/x", "../x", "a/../../x", ""):
        with pytest.raises(ValueError, match="must have a relative path"):
            await sandbox.run("pass", files={name: ""})


async def test_imported_modules_are_there_and_the_sandbox_itself_is_not(sandbox: Sandbox) -> None:
    assert await lines(sandbox, "import sys; print([name for name in sys.modules if 'gym' in name])") == ["[]"]
    ran = await sandbox.run("import pydantic")
    if not REFUSAL:
        assert "No module named 'pydantic'" in ran.stderr


async def test_the_same_program_runs_the_same_way(sandbox: Sandbox) -> None:
    assert await lines(sandbox, "print(hash('a'))") == await lines(sandbox, "print(hash('a'))")


# Limits.


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import re; re.match('(a+)+$', 'a' * 64 + 'b')",
        "import signal\nfor number in {*range(1, 65)} - {9, 19, 32, 33}: signal.signal(number, signal.SIG_IGN)\n"
        "while True: pass",
        "try:\n    while True: pass\nexcept BaseException: pass",
    ],
)
async def test_cpu_seconds_are_limited_whatever_the_program_does(sandbox: Sandbox, code: str) -> None:
    ran = await sandbox.run(code, cpu_s=0.3)
    assert ran.limit == "cpu"
    assert ran.cpu_s < 1.5


@pytest.mark.slow
async def test_a_run_that_sleeps_has_met_its_limit(sandbox: Sandbox) -> None:
    ran = await sandbox.run("import time; time.sleep(600)", wall_s=0.5)
    assert (ran.limit, ran.ok) == ("wall", False)


@pytest.mark.slow
async def test_a_run_that_is_kept_from_the_processor_is_lost(sandbox: Sandbox) -> None:
    with pytest.raises(WorkerLostError, match="without being asleep"):
        await sandbox.run("while True: pass", cpu_s=60, wall_s=0.5)


@isolated
@pytest.mark.slow
async def test_a_run_that_waits_for_a_process_of_its_own_is_not_asleep(sandbox: Sandbox) -> None:
    code = "import os\nif os.fork() == 0:\n    while True: pass\nos.wait()"
    with pytest.raises(WorkerLostError, match="without being asleep"):
        await sandbox.run(code, cpu_s=60, wall_s=0.5)


@isolated
@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "limit"),
    [
        ("if os.fork() == 0:\n    while True:\n        if os.fork(): os._exit(0)\n        spin()", "cpu"),
        ("while True:\n    if os.fork() == 0: spin(); os._exit(0)\n    wait()", "cpu"),
        ("while True:\n    for _ in range(4):\n        if os.fork() == 0: spin(); os._exit(0)\n    wait()", "cpu"),
        (
            "import threading\nfor _ in 'abc': threading.Thread(target=lambda: [spin() for _ in iter(int, 1)]).start()",
            "cpu",
        ),
        ("os.system('while true; do /bin/true; done')", "cpu"),
        ("os.system('sleep 60')", "wall"),
        ("import ctypes\nlibc = ctypes.CDLL(None)\nif libc.vfork() == 0: libc.pause()", "wall"),
        ("import sys\nwhile True: print(1, flush=True); time.sleep(0.001)", "wall"),
        ("os.system('kill -STOP $$; true')", "wall"),
    ],
)
async def test_processes_and_threads_count_together(sandbox: Sandbox, code: str, limit: str) -> None:
    before = "import os, signal, time\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\ndef spin():\n"
    before += "    until = time.monotonic() + 0.003\n    while time.monotonic() < until: pass\n"
    before += "def wait():\n    try: os.wait()\n    except ChildProcessError: pass  # which comes when all have ended\n"
    ran = await sandbox.run(before + code + "\ntime.sleep(60)", cpu_s=1.0, sleep_s=1.0)
    assert ran.limit == limit


@isolated
async def test_no_program_chooses_to_be_lost(sandbox: Sandbox) -> None:
    for code in ("resource.setrlimit(resource.RLIMIT_CPU, (0, 0))", "resource.prlimit(0, resource.RLIMIT_CPU, (0, 0))"):
        ran = await sandbox.run(f"import resource\n{code}\nwhile True: pass")
        assert ran.exit_status == 1
        assert "not allowed to raise maximum limit" in ran.stderr or "PermissionError" in ran.stderr
    code = "import os\nfor pid in (os.getpid(), 0, -1):\n    try: os.kill(pid, 9)\n    except OSError: pass\n"
    assert (await sandbox.run(code + "raise SystemExit(3)")).exit_status == 3


@isolated
async def test_no_run_kills_another_by_its_process_group(small: Sandbox) -> None:
    await small.run("import os, time; time.sleep(0.1); os.kill(0, 9)")
    assert (await small.run("print(1)")).ok  # in a process that was forked before the other one ended


@pytest.mark.slow
async def test_sleeping_runs_keep_no_other_from_running() -> None:
    sandbox = Sandbox(isolation="none" if REFUSAL else "namespaces", size=1)
    await sandbox.run("pass")
    sleeping = [asyncio.ensure_future(sandbox.run("import time; time.sleep(600)")) for _ in range(8)]
    started_s = time.monotonic()
    assert (await sandbox.run("print(1)")).ok
    assert time.monotonic() - started_s < 5
    for run in sleeping:
        assert (await run).limit == "wall"
    assert time.monotonic() - started_s < 12  # each slept for five seconds, all at a time
    await asyncio.to_thread(sandbox.close)


@pytest.mark.parametrize("end", ["sys.stdout.close()", "sys.stdout = None", "sys.stderr = None"])
async def test_code_may_close_or_replace_its_standard_streams(sandbox: Sandbox, end: str) -> None:
    ran = await sandbox.run(f"import sys\nprint(1)\n{end}")
    assert (ran.exit_status, ran.stdout, ran.stderr) == (0, "1\n", "")


async def test_output_is_not_lost_in_a_stream_that_the_code_leaves_open(sandbox: Sandbox) -> None:
    ran = await sandbox.run("print(1)\nout = open(1, 'w', closefd=False)\nout.write('2')")
    assert (ran.exit_status, ran.stdout) == (0, "1\n2")


async def test_a_file_that_cannot_be_written_is_told(sandbox: Sandbox) -> None:
    ran = await sandbox.run("print(1)", files={"a": "", "a/b": ""})
    assert (ran.exit_status, ran.stdout) == (1, "")
    assert ran.stderr.startswith("sandbox: can't write 'a/b': ")
    assert (await sandbox.run("print(1)", files={"a": "0" * (65 << 20)})).limit == "disk"


async def test_memory_is_limited(sandbox: Sandbox) -> None:
    ran = await sandbox.run("bytearray(1 << 30)", memory_bytes=256 << 20)
    assert ran.limit == "memory"
    bomb = "kept = []\nwhile True: kept.append(bytearray(16 << 20))"
    assert (await sandbox.run(bomb, memory_bytes=128 << 20)).limit == "memory"


@isolated
@pytest.mark.slow
async def test_memory_is_limited_for_all_processes_together(sandbox: Sandbox) -> None:
    code = "import os, time\nmine = bytearray(b'x') * ({mine} << 20)\nfor _ in range(4):\n    if os.fork() == 0:\n"
    code += "        more = bytearray(b'x') * ({each} << 20); time.sleep(1); os._exit(0)\nfor _ in range(4): os.wait()"
    assert (await sandbox.run(code.format(mine=1, each=96), memory_bytes=256 << 20)).limit == "memory"
    assert (await sandbox.run(code.format(mine=160, each=8), memory_bytes=256 << 20)).ok  # shared, so held once
    hidden = "import ctypes\nctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n"  # PR_SET_DUMPABLE, from all but root
    assert (await sandbox.run(hidden + code.format(mine=1, each=96), memory_bytes=256 << 20)).limit == "memory"


@pytest.mark.parametrize("stream", [1, 2])
async def test_output_is_limited_while_it_is_produced(sandbox: Sandbox, stream: int) -> None:
    started_s = time.monotonic()
    ran = await sandbox.run(f"import os\nfor _ in range(1 << 14): os.write({stream}, b'x' * (1 << 16))")  # 1 GB
    assert ran.limit == "output"
    assert len(ran.stdout + ran.stderr) == 1 << 20
    assert time.monotonic() - started_s < 5


async def test_output_up_to_the_limit_is_allowed(sandbox: Sandbox) -> None:
    ran = await sandbox.run("print('x' * 99)", output_bytes=100)
    assert (len(ran.stdout), ran.ok) == (100, True)
    ran = await sandbox.run("print('x' * 200)", output_bytes=100)
    assert (len(ran.stdout), ran.limit) == (100, "output")


@isolated
async def test_processes_are_limited(sandbox: Sandbox) -> None:
    bomb = "import os\nfor _ in range(50):\n    if os.fork() == 0: __import__('time').sleep(60)"
    ran = await sandbox.run(bomb)
    assert ran.limit == "processes"
    count = "import os, time\nn = 0\nfor _ in range(50):\n    try:\n        if os.fork() == 0: time.sleep(60)\n"
    assert await lines(sandbox, count + "        n += 1\n    except BlockingIOError: pass\nprint(n)") == ["7"]
    threads = "import threading, time\nfor _ in range(50): threading.Thread(target=time.sleep, args=(9,)).start()"
    assert (await sandbox.run(threads)).limit == "processes"


@isolated
@pytest.mark.slow
async def test_a_fork_bomb_ends_with_its_run(sandbox: Sandbox) -> None:
    ran = await sandbox.run(
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", cpu_s=0.5, wall_s=20
    )
    assert ran.limit == "cpu"
    assert await lines(sandbox, "print(1)") == ["1"]


@isolated
@pytest.mark.parametrize(
    "code",
    [
        "file = open('big', 'wb')\nwhile True: file.write(b'x' * (1 << 20))",
        "for i in range(99): open(str(i), 'wb').write(b'x' * (4 << 20))",
        "for i in range(9999): open(str(i), 'wb').close()",
    ],
)
async def test_the_disk_is_limited(sandbox: Sandbox, code: str) -> None:
    assert (await sandbox.run(code)).limit == "disk"


# Escapes.


@isolated
@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/proc/self",
        "/proc/1/environ",
        "/sys",
        "/home",
        "/dev/shm",
        "/etc/shadow",
        f"{ROOT}/README.md",
        __file__,
    ],
)
async def test_the_files_of_the_host_are_not_there(sandbox: Sandbox, path: str) -> None:
    assert await lines(sandbox, f"import os; print(os.path.exists({path!r}))") == ["False"]


@isolated
async def test_packages_that_were_not_imported_are_not_there(sandbox: Sandbox) -> None:
    packages = str(Path(pytest.__file__).parents[1])
    code = f"import os; print(os.path.exists({packages!r}) and 'pydantic' in os.listdir({packages!r}))"
    assert await lines(sandbox, code) == ["False"]


@isolated
@pytest.mark.slow
async def test_only_the_box_can_be_written(sandbox: Sandbox) -> None:
    code = "import os, sys\nfor top, _, _ in os.walk('/'):\n    if os.access(top, os.W_OK): print(top)"
    assert await lines(sandbox, code) == ["/box"]


@isolated
async def test_nothing_is_left_for_the_next_run(sandbox: Sandbox) -> None:
    await sandbox.run("open('/box/secret', 'w').write('1'); import random; random.secret = 1")
    assert await lines(sandbox, "import os, random; print(os.listdir(), hasattr(random, 'secret'))") == ["[] False"]


@isolated
async def test_runs_at_the_same_time_see_nothing_of_each_other(sandbox: Sandbox) -> None:
    first = "import os, socket, time\nopen('a', 'w').close()\ns = socket.socket(socket.AF_UNIX); s.bind('\\0name')\n"
    second = "import os, socket, time\ntime.sleep(0.2)\nprint(os.listdir())\ns = socket.socket(socket.AF_UNIX)\n"
    own = "socket.socket(socket.AF_UNIX).bind('\\0name')\n"  # nor is the name taken
    ran = await asyncio.gather(
        sandbox.run(first + "time.sleep(0.6)"), sandbox.run(second + own + "s.connect('\\0name')")
    )
    assert ran[0].ok
    assert ran[1].stdout == "[]\n"
    assert "ConnectionRefusedError" in ran[1].stderr


async def test_the_environment_of_the_host_is_not_there(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GYM_SECRET", "1")
    fresh = Sandbox(isolation="none" if REFUSAL else "namespaces", size=1)
    names = (await fresh.run("import os; print(*os.environ)")).stdout.split()
    fresh.close()
    assert "GYM_SECRET" not in names
    assert len(names) <= 9


async def test_no_descriptor_is_inherited(sandbox: Sandbox) -> None:
    code = "import os\nfor number in range(3, 1 << 16):\n    try: print(number, os.write(number, b'x'))\n"
    assert await lines(sandbox, code + "    except OSError: pass") == []


@isolated
@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_VSOCK", "AF_NETLINK", "AF_PACKET"])
async def test_there_is_no_network(sandbox: Sandbox, family: str) -> None:
    ran = await sandbox.run(f"import socket; socket.socket(socket.{family}, socket.SOCK_STREAM)")
    assert "PermissionError" in ran.stderr


@isolated
@pytest.mark.parametrize(
    "call",
    [
        "ptrace(0, 0, 0, 0)",
        "process_vm_readv(1, 0, 0, 0, 0, 0)",
        "unshare(0x10000000)",
        "unshare(0x20000)",
        "syscall(56 if x86 else 220, 0x10000011, 0, 0, 0, 0)",  # clone into a new user namespace
        "mount(b'none', b'/box', b'tmpfs', 0, b'')",
        "umount2(b'/box', 2)",
        "setns(0, 0)",
        "chroot(b'/box')",
        "mknod(b'/box/kmsg', 0o60666, 0x10b)",
        "sethostname(b'x', 1)",
        "shmget(0, 4096, 0o1600)",
        "memfd_create(b'x', 0)",
        "syscall(425, 1, 0)",  # io_uring_setup
        "setrlimit(6, b'\\xff' * 16)",  # RLIMIT_NPROC
        "prlimit(0, 0, b'\\0' * 16, 0)",  # RLIMIT_CPU, to be killed by the kernel
        "prctl(22, 1, 0, 0, 0)",  # PR_SET_SECCOMP
        "nice(1)",
        "sched_setscheduler(0, 5, b'\\0' * 4)",  # SCHED_IDLE
        "sched_setaffinity(0, 8, b'\\1' + b'\\0' * 7)",
        "sync() or libc.syncfs(0)",
        "semget(0, 32000, 0o600)",
        "msgget(0, 0o600)",
        "mq_open(b'/x', 0o102, 0o600, None)",
        "timerfd_create(0, 0)",
        "signalfd(-1, b'\\0' * 128, 0)",
        "inotify_init1(0)",
        "fanotify_init(0, 0)",
        "syscall(206 if x86 else 0, 1, ctypes.byref(ctypes.c_long()))",  # io_setup
        "syscall(250 if x86 else 219, 0, 0, 0)",  # keyctl
        "mlockall(2)",
        "memfd_secret(0)" if hasattr(ctypes.CDLL(None), "memfd_secret") else "syscall(447, 0)",
        "socket(1, 2, 0)",  # datagrams
        "listen(0, 1)",
        "setsockopt(0, 1, 7, b'\\0' * 4, 4)",
        "fcntl(0, 1031, 1 << 20)",  # F_SETPIPE_SZ
        "fcntl(0, 1024, 0)",  # F_SETLEASE
    ],
)
async def test_doors_to_the_kernel_are_shut(sandbox: Sandbox, call: str) -> None:
    code = "import ctypes, errno, platform\nx86 = platform.machine() == 'x86_64'\n"
    code += "libc = ctypes.CDLL(None, use_errno=True)\n"
    assert await lines(sandbox, code + f"print(libc.{call}, ctypes.get_errno() == errno.EPERM)") == ["-1 True"]


WAKES_TO_BE_SEEN = """
import fcntl, os, time
left = bytearray(4)
def is_read():
    fcntl.ioctl(1, 0x541B, left)  # FIONREAD
    return not any(left)
while True:
    os.write(1, b".")
    end = time.perf_counter() + 0.02
    while not is_read() and time.perf_counter() < end: pass
    end = time.perf_counter() + 0.0006
    while time.perf_counter() < end: pass
    time.sleep(0.015)
"""


@isolated
@pytest.mark.slow
async def test_a_sleeper_that_wakes_to_be_seen_is_asleep(sandbox: Sandbox) -> None:
    ran = await sandbox.run(WAKES_TO_BE_SEEN, cpu_s=20, sleep_s=1.5, wall_s=6)
    assert ran.limit == "wall"


@isolated
async def test_timers_that_no_limit_counts_seem_not_to_exist(sandbox: Sandbox) -> None:
    code = "import ctypes, errno\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    code += "print(libc.timer_create(0, None, ctypes.byref(ctypes.c_void_p())), ctypes.get_errno() == errno.ENOSYS)"
    assert await lines(sandbox, code) == ["-1 True"]
    ran = await sandbox.run("import subprocess; subprocess.run(['timeout', '5', 'echo', '1'], check=True)")
    assert (ran.stdout, ran.stderr) == ("1\n", "")


@isolated
@pytest.mark.slow
async def test_usual_system_calls_are_allowed(sandbox: Sandbox) -> None:
    for code in ORDINARY:
        ran = await sandbox.run(code)
        assert ran.ok, (code, ran)


ORDINARY = [
    "import subprocess\nassert subprocess.check_output('echo 1 | cat; (true) & wait', shell=True) == b'1\\n'",
    "import os\nassert os.system('true') == 0 and os.popen('echo 1').read() == '1\\n'",
    "import concurrent.futures as c\nwith c.ThreadPoolExecutor(4) as pool: assert sum(pool.map(abs, range(9))) == 36",
    "import asyncio\nasync def main():\n    cat = await asyncio.create_subprocess_exec('cat', stdin=-1, stdout=-1)\n"
    "    assert (await cat.communicate(b'1'))[0] == b'1' and await asyncio.to_thread(abs, -1)\nasyncio.run(main())",
    "import sqlite3\nc = sqlite3.connect('x.db')\nc.execute('create table a(b)')\n"
    "c.execute('insert into a values (1)')\nc.commit()\nassert c.execute('select * from a').fetchall() == [(1,)]",
    "import os, shutil, tempfile\nos.makedirs('a/b'); open('a/b/c', 'w').close(); shutil.copytree('a', 'd')\n"
    "os.rename('d', 'e'); shutil.rmtree('a'); os.symlink('e', 'f'); os.utime('e'); os.mkfifo('g'); tempfile.mkdtemp()",
    "import fcntl, mmap, os, signal, socket\nfile = open('x', 'w'); fcntl.lockf(file, fcntl.LOCK_EX)\n"
    "fcntl.flock(file, fcntl.LOCK_EX); mmap.mmap(-1, 4096); a, b = socket.socketpair(); a.send(b'1'); b.recv(1)\n"
    "signal.signal(14, lambda *_: 0); signal.setitimer(signal.ITIMER_REAL, 0.01); signal.pause(); os.isatty(0)",
    "import multiprocessing\np = multiprocessing.Process(target=print); p.start(); p.join(); assert p.exitcode == 0",
]


@isolated
@pytest.mark.slow
async def test_kernel_memory_stays_bounded(sandbox: Sandbox) -> None:
    code = "import fcntl, os, socket, struct\nkept = []\ntry:\n    while True: kept.append(socket.socketpair())\n"
    code += (
        "except OSError: print(len(kept))\nfor pair in kept:\n    for end in pair:\n        end.setblocking(False)\n"
    )
    code += "        try:\n            while True: end.send(b'x' * 65536)\n        except OSError: pass\n"
    code += "kept[0][0].close(); file = open('x', 'w')\n"
    code += "for n in range(100_000): fcntl.lockf(file, fcntl.LOCK_EX, 1, 2 * n)\nprint('done')"
    before = _slab_mb()
    running = asyncio.ensure_future(sandbox.run(code))
    most = before
    while not running.done():
        await asyncio.sleep(0.01)
        most = max(most, _slab_mb())
    assert (await running).stdout.splitlines()[-1] == "done"
    assert most - before < 100  # one such run of eight processes takes less than it may take of its own memory


def _slab_mb() -> int:
    meminfo = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) >> 10 for line in meminfo if line.startswith("Slab:"))


@isolated
async def test_a_run_sees_and_kills_no_process_but_its_own(sandbox: Sandbox) -> None:
    code = "import os\nprint(os.getpid(), os.getppid())\nos.kill(1, 9)\nfor pid in range(2, 1000):\n"
    code += "    try: os.kill(pid, 0); print(pid)\n    except ProcessLookupError: pass"
    assert await lines(sandbox, code) == ["1 0"]


@isolated
async def test_programs_left_running_end_with_the_run(sandbox: Sandbox) -> None:
    code = "import os, subprocess\nsubprocess.Popen(['sleep', '54321'], start_new_session=True)\nprint(1)"
    assert await lines(sandbox, code) == ["1"]
    assert none_within(2, "54321")


# Untrusted calls.


EVAL = "builtins:eval"


@pytest.fixture(scope="module")
def calls() -> Iterator[Sandbox]:
    sandbox = Sandbox(["builtins", "operator"], isolation="none" if REFUSAL else "namespaces", size=1)
    yield sandbox
    sandbox.close()


async def test_an_untrusted_call_returns_what_the_function_does(calls: Sandbox) -> None:
    assert await calls.call(EVAL, "[1 + 1, print('x')]") == [2, None]
    assert await calls.call(eval, "{'a': 1.5}") == {"a": 1.5}


async def test_nothing_of_an_untrusted_call_reaches_the_next(calls: Sandbox) -> None:
    spoil = "setattr(__import__('operator'), 'add', lambda *_: 7) or open('left', 'w').close()"
    await calls.call(EVAL, spoil)
    assert await calls.call("operator:add", 1, 2) == 3
    assert await calls.call(EVAL, "__import__('os').path.exists('left')") is False


async def test_a_call_is_over_with_its_answer(calls):
    started_s = time.monotonic()
    assert await calls.call(EVAL, "[__import__('atexit').register(__import__('time').sleep, 4), 7][1]") == 7
    assert time.monotonic() - started_s < 2.0


async def test_an_untrusted_call_sees_no_variable_of_the_caller(
    calls: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GYM_SECRET", "1")
    fresh = Sandbox(["builtins"], isolation="none" if REFUSAL else "namespaces", size=1)
    names = await fresh.call(EVAL, "[*__import__('os').environ]")
    fresh.close()
    assert "GYM_SECRET" not in names
    assert len(names) <= 9


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("__import__('ctypes').string_at(0)", "exit status -11"),
        ("__import__('os').abort()", "exit status -(6|11)"),  # a first process is not ended by SIGABRT
        ("__import__('os')._exit(0)", "exit status 0"),
        ("__import__('os').write(1, b'x' * 2000000)", "output"),
        ("bytearray(1 << 40)", "memory"),
        pytest.param("9**9**9**9", "cpu", marks=pytest.mark.slow),
        pytest.param("__import__('time').sleep(60)", "wall", marks=pytest.mark.slow),
    ],
)
async def test_a_text_is_to_blame_for_the_end_of_its_own_call(calls: Sandbox, text: str, reason: str) -> None:
    with pytest.raises(WorkerHungError, match=reason):
        await calls.call(EVAL, text, cpu_s=0.5, sleep_s=0.5)


async def test_an_exception_of_an_untrusted_function_is_reported(calls: Sandbox) -> None:
    with pytest.raises(WorkerError, match="ZeroDivisionError: division by zero"):
        await calls.call(EVAL, "1/0")
    with pytest.raises(WorkerError, match="SystemExit: 3"):
        await calls.call(EVAL, "__import__('sys').exit(3)")
    with pytest.raises(WorkerError, match="the result of builtins:eval must be JSON: TypeError"):
        await calls.call(EVAL, "{1, 2}")


async def test_a_function_that_cannot_be_called_is_refused_in_one_sentence(calls: Sandbox) -> None:
    with pytest.raises(WorkerLostError, match=r"must have imported it: Sandbox\(\['math', ...\]\)"):
        await calls.call("math:sqrt", 4.0)
    with pytest.raises(WorkerLostError, match="must be a top-level function"):
        await calls.call(lambda: 1)
    with pytest.raises(WorkerLostError, match="the arguments of builtins:eval must be picklable"):
        await calls.call(EVAL, lambda: 1)
    with pytest.raises(WorkerLostError, match="could not import builtins:no_such"):
        await calls.call("builtins:no_such")


@isolated
async def test_data_beside_a_module_of_the_callers_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("import os\ndef files(): return os.listdir(os.path.dirname(__file__))\n")
    (package / "answers.jsonl").write_text("42\n")
    monkeypatch.syspath_prepend(tmp_path)
    sandbox = Sandbox(["own_package"], size=1)
    assert await sandbox.call("own_package:files") == ["__init__.py"]
    sandbox.close()


# The sandbox as a whole.


async def test_it_refuses_where_it_cannot_isolate_unless_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)  # as root, for whom there is no bubblewrap
    sandbox = Sandbox(isolation="bubblewrap", size=1)
    with pytest.raises(WorkerLostError, match=r"a sandbox must isolate .* \(bubblewrap: .*isolation='none'"):
        await sandbox.run("pass")
    sandbox.close()


async def test_without_isolation_there_are_limits_and_a_directory() -> None:
    sandbox = Sandbox(isolation="none", size=1)
    path = (await lines(sandbox, "import os; open('x', 'w').close(); print(os.getcwd())"))[0]
    assert "gym-sandbox-" in path
    assert (await sandbox.run("bytearray(1 << 30)")).limit == "memory"
    sandbox.close()
    assert not os.path.exists(path)  # noqa: ASYNC240  # nothing else runs


def test_an_unknown_isolation_is_refused() -> None:
    with pytest.raises(ValueError, match="isolation must be one of"):
        Sandbox(isolation="docker")  # type: ignore[arg-type]


async def test_a_module_that_cannot_be_imported_is_named() -> None:
    sandbox = Sandbox(["no_such_module"], isolation="none", size=1)
    with pytest.raises(WorkerLostError, match=r"^a child process could not import no_such_module: Module"):
        await sandbox.run("pass")
    sandbox.close()


async def test_a_program_that_does_not_start_the_code_is_lost() -> None:
    sandbox = Sandbox(isolation=Command(["sh", "-c", "echo broken >&2; exit 1"]), size=1)
    with pytest.raises(WorkerLostError, match="could not run the code: broken"):
        await sandbox.run("pass")
    sandbox.close()


async def test_another_back_end_gives_the_same_answers() -> None:
    sandbox = Sandbox(isolation=Command(["env"]), size=1)
    ran = await sandbox.run("print(input())\nraise SystemExit(2)", stdin="1\n")
    assert (ran.stdout, ran.stderr, ran.exit_status) == ("1\n", "", 2)
    assert (await sandbox.run("bytearray(1 << 30)")).limit == "memory"
    sandbox.close()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("bwrap"), reason="bwrap is not installed")
@pytest.mark.skipif(os.geteuid() == 0, reason="bwrap is not used as root, whose processes no limit counts")
async def test_bubblewrap_isolates() -> None:
    sandbox = Sandbox(isolation="bubblewrap", size=1)
    code = "import os; print(os.path.exists('/etc/passwd'), os.access('/usr', os.W_OK), os.getcwd())"
    assert await lines(sandbox, code) == ["False False /box"]
    sandbox.close()


async def test_many_runs_at_once(sandbox: Sandbox) -> None:
    ran = await asyncio.gather(*[sandbox.run(f"print({number})") for number in range(40)])
    assert [one.stdout for one in ran] == [f"{number}\n" for number in range(40)]


def test_threads_with_their_own_loops_share_a_sandbox(sandbox: Sandbox) -> None:
    ran: list[Ran] = []
    threads = [threading.Thread(target=lambda: ran.append(asyncio.run(sandbox.run("print(1)")))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.stdout for one in ran] == ["1\n"] * 3


@pytest.fixture
async def small() -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(isolation="none" if REFUSAL else "namespaces", size=1)
    await sandbox.run("pass")
    yield sandbox
    await asyncio.to_thread(sandbox.close)


async def test_cancellation_kills_the_run(small: Sandbox) -> None:
    code = "import subprocess; subprocess.run(['sleep', '54322'])"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(small.run(code), 0.3)
    assert none_within(2, "54322")
    assert (await small.run("print(1)")).ok


async def test_close_loses_the_runs_and_leaves_no_process(small: Sandbox) -> None:
    runs = [asyncio.ensure_future(small.run("import subprocess; subprocess.run(['sleep', '54323'])")) for _ in range(2)]
    await asyncio.sleep(0.3)
    await asyncio.to_thread(small.close)
    assert [type(one) for one in await asyncio.gather(*runs, return_exceptions=True)] == [WorkerLostError] * 2
    assert none_within(2, "54323")
    with pytest.raises(WorkerLostError, match="closed"):
        await small.run("pass")


@isolated
async def test_a_zygote_that_was_killed_is_replaced(small: Sandbox) -> None:
    run = asyncio.ensure_future(small.run("import time; time.sleep(60)"))
    await asyncio.sleep(0.3)
    stubs = [pid for pid in processes_with("gym_core.processes.zygote") if _parent(pid) == os.getpid()]
    for pid in stubs:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerLostError):
        await run
    assert (await small.run("print(1)")).ok


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@isolated
@pytest.mark.slow
def test_no_process_outlives_a_killed_parent() -> None:
    run = "import subprocess, time; time.sleep(0.5); subprocess.run(['sleep', '54324'])"
    program = (
        "import asyncio, os, time; from gym_core.processes import Sandbox\n"
        "async def main():\n"
        "    sandbox = Sandbox(); await sandbox.run('pass')\n"
        "    if os.fork() == 0: time.sleep(30); os._exit(0)  # it keeps the parent's sockets open\n"
        f"    await sandbox.run({run!r})\n"
        "asyncio.run(main())"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, start_new_session=True)
    deadline = time.monotonic() + 30
    while not processes_with("54324\0") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_with("54324\0")
    parent.kill()
    parent.wait()
    assert none_within(5, "54324\0")
    os.killpg(parent.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["none", *([] if REFUSAL else ["namespaces"])])
def test_a_forked_process_has_runs_of_its_own(isolation: Isolation) -> None:
    sandbox = Sandbox(isolation=isolation, size=1)

    async def fork_while_it_runs() -> tuple[Ran, bytes]:
        running = asyncio.ensure_future(sandbox.run("import time; time.sleep(1); print(1)"))
        await asyncio.sleep(0.5)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:  # it must never come back into pytest
            try:
                os.write(writer, in_a_thread(sandbox).encode())
            finally:
                os._exit(0)
        os.close(writer)
        answer = await asyncio.to_thread(os.read, reader, 100)
        await asyncio.to_thread(os.waitpid, pid, 0)
        os.close(reader)
        return await running, answer

    def in_a_thread(sandbox: Sandbox) -> str:
        with ThreadPoolExecutor(1) as pool:  # the forked thread has a running loop
            return pool.submit(lambda: asyncio.run(sandbox.run("print(2)")).stdout).result(10)

    ours, theirs = asyncio.run(fork_while_it_runs())
    assert (ours.stdout, theirs) == ("1\n", b"2\n")
    assert asyncio.run(sandbox.run("print(3)")).stdout == "3\n"
    sandbox.close()


def test_a_sandbox_can_be_pickled() -> None:
    copy = pickle.loads(pickle.dumps(Sandbox(["json"], isolation="none", size=1)))
    assert copy.modules == ("json",)
    assert asyncio.run(copy.run("import sys; print('json' in sys.modules)")).stdout == "True\n"
    copy.close()


async def test_a_process_shares_one_sandbox_for_each_set_of_modules() -> None:
    assert shared_sandbox() is shared_sandbox([])
    assert shared_sandbox(["json"]) is not shared_sandbox()


@isolated
@pytest.mark.slow
async def test_a_program_that_runs_at_each_tick_of_the_kernel_is_not_lost() -> None:
    code = (
        "import time\nTICK_S = 0.004\nwhile True:\n"
        "    now_s = time.monotonic()\n    tick_s = (int(now_s / TICK_S) + 1) * TICK_S\n"
        "    time.sleep(max(0, tick_s - now_s - 0.0003))\n"
        "    while time.monotonic() < tick_s + 0.0003: pass\n"
    )
    sandbox = Sandbox(isolation="namespaces")
    try:
        ran = await sandbox.run(code, cpu_s=1.5, sleep_s=6)
    finally:
        sandbox.close()
    assert ran.limit in ("cpu", "wall")
