"""Sessions: what they keep, what they limit, and what cannot be done from inside. In namespaces, and in Docker.

The image for Docker, with Python 3.11 or newer, is named by GYM_DOCKER_IMAGE.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from gym_core.errors import ToolError, WorkerLostError
from gym_core.processes import Docker, Sandbox, Session

IMAGE = os.environ.get("GYM_DOCKER_IMAGE", "")
ROOT = str(Path(__file__).parents[3])


def refusal() -> str:
    """Why namespaces are not permitted here; "" where they are."""

    async def open_and_close() -> None:
        async with sandbox.session():
            pass

    sandbox = Sandbox(isolation="namespaces")
    try:
        asyncio.run(open_and_close())
    except WorkerLostError as error:
        return str(error)
    finally:
        sandbox.close()
    return ""


REFUSAL = refusal()
in_namespaces = pytest.mark.skipif(bool(REFUSAL), reason=f"namespaces are not permitted here: {REFUSAL}")
in_docker = pytest.mark.skipif(not IMAGE or not shutil.which("docker"), reason="needs docker, and GYM_DOCKER_IMAGE")
WAYS = [pytest.param("namespaces", marks=in_namespaces), pytest.param("docker", marks=[in_docker, pytest.mark.slow])]

Make = Callable[..., Session]


@pytest.fixture(scope="module", params=WAYS)
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """What makes a session, not open yet."""
    sandbox = Sandbox()
    image = IMAGE if request.param == "docker" else None
    yield lambda **arguments: sandbox.session(image=image, **arguments)
    sandbox.close()


@pytest.fixture
async def box(make: Make) -> AsyncIterator[Session]:
    async with make() as box:
        yield box


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


def are_within(seconds: float, mark: str, count: int) -> bool:
    deadline = time.monotonic() + seconds
    while len(processes_with(mark)) != count:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# What a session keeps.


async def test_files_are_there_as_text_and_as_bytes(make: Make) -> None:
    async with make(files={"a/b.txt": "größer", "c": b"\xff\0"}) as box:
        assert await box.read("a/b.txt") == "größer"
        assert await box.read_bytes("c") == b"\xff\0"
        await box.write("a/d/e", "new")
        await box.write("c", "short")
        assert (await box.exec("cat a/d/e c a/b.txt")).stdout == "newshortgrößer"
        assert (await box.list(), await box.list("a")) == (("a/", "c"), ("b.txt", "d/"))


async def test_a_command_prints_and_ends_by_its_own_status(box: Session) -> None:
    ran = await box.exec("echo out\nfor i in 1 2; do echo $i >&2; done\nexit 3")
    assert (ran.stdout, ran.stderr, ran.exit_status, ran.limit, ran.ok) == ("out\n", "1\n2\n", 3, None, False)
    assert (await box.exec("true")).ok
    assert (await box.exec("kill -SEGV $$")).exit_status == -signal.SIGSEGV


async def test_files_outlast_a_command_and_its_directory_and_variables_do_not(box: Session) -> None:
    await box.exec("mkdir d; cd d; echo 1 > file; export x=1")
    assert (await box.exec("cat d/file; echo $x; pwd")).stdout == "1\n\n/box\n"


async def test_a_background_process_lives_on_though_nobody_reads_what_it_prints(box: Session) -> None:
    ran = await box.exec("(while true; do echo noise; date +%s%N > new; mv new beat; sleep 0.01; done) & echo $! > pid")
    assert ran.ok
    assert ran.wall_s < 1
    await asyncio.sleep(0.3)
    first = await box.read("beat")
    await asyncio.sleep(0.3)
    assert await box.read("beat") > first
    assert (await box.exec("kill -0 $(cat pid) && kill $(cat pid)")).ok


async def test_a_server_answers_later_commands(box: Session) -> None:
    await box.exec("mkfifo asked answered; while read x < asked; do echo $((2 * x)) > answered; done &")
    assert (await box.exec("echo 21 > asked; cat answered")).stdout == "42\n"
    assert (await box.python("open('asked', 'w').write('4\\n')\nopen('answered').read()")).value == "'8\\n'"


async def test_the_interpreter_keeps_its_variables_and_tells_a_value_and_what_was_printed(box: Session) -> None:
    cell = await box.python("x = 2\nprint('printed')\nx + 1")
    assert (cell.value, cell.stdout, cell.stderr, cell.ok) == ("3", "printed\n", "", True)
    assert (await box.python("import os\nx = [x]; x")).value == "[2]"
    assert (await box.python("x = 5")).value is None
    assert (await box.python("None")).value is None
    assert (await box.python("")).ok
    assert (await box.python("os.getcwd(), __name__")).value == "('/box', '__main__')"


async def test_an_exception_is_told_with_the_cells_own_lines(box: Session) -> None:
    await box.python("def f():\n    return 1 / 0")
    cell = await box.python("x = 1\nf()")
    assert (cell.exit_status, cell.value, cell.limit) == (1, None, None)
    assert cell.stderr.startswith('Traceback (most recent call last):\n  File "<cell 2>", line 2, in <module>\n    f()')
    assert "return 1 / 0" in cell.stderr
    assert cell.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert (await box.python("x")).value == "1"


@pytest.mark.parametrize(
    ("code", "status"),
    [("raise SystemExit(4)", 4), ("exit('why')", 1), ("1 +", 1), ("'\0'", 1), ("'\ud800'", 1), ("(" * 500, 1)],
)
async def test_a_cell_that_ends_or_is_no_python_does_not_end_the_interpreter(
    box: Session, code: str, status: int
) -> None:
    await box.python("x = 1")
    cell = await box.python(code)
    assert (cell.exit_status, cell.limit) == (status, None)
    assert (await box.python("x")).value == "1"


async def test_a_value_that_can_not_be_shown_is_the_cells_fault(box: Session) -> None:
    cell = await box.python("class A:\n    def __repr__(self): raise KeyError('no')\nA()")
    assert (cell.exit_status, cell.value) == (1, None)
    assert "KeyError: 'no'" in cell.stderr
    assert len((await box.python("'x' * 10_000_000")).value or "") == 64 << 10


async def test_commands_run_at_the_same_time_and_cells_after_one_another(box: Session) -> None:
    started_s = time.monotonic()
    await asyncio.gather(*[box.exec("sleep 0.5") for _ in range(5)])
    assert time.monotonic() - started_s < 2
    cells = await asyncio.gather(*[box.python("import time; n = 0" if i == 0 else "n += 1; n") for i in range(4)])
    assert [cell.value for cell in cells] == [None, "1", "2", "3"]


async def test_two_sessions_share_nothing(make: Make) -> None:
    async with make(files={"mine": "1"}) as one, make() as other:
        assert await other.list() == ()
        await one.exec("sleep 100 & echo 1 > $TMPDIR/x")
        assert (await other.exec("kill -0 2; ls $TMPDIR")).stdout == ""
        await other.python("import os, signal; os.kill(-1, signal.SIGKILL)")
        assert (await one.exec("kill -0 $(jobs -p); cat mine")).stdout == "1"


async def test_python_and_the_sandboxs_modules_are_found_by_commands(make: Make) -> None:
    async with make(files={"test_it.py": "def test_it(): assert 1 + 1 == 2"}) as box:
        assert (await box.exec("python3 -m unittest --help")).ok
    if not REFUSAL:
        sandbox = Sandbox(["pytest"])
        async with sandbox.session(files={"test_it.py": "def test_it(): assert 1 + 1 == 2"}) as box:
            ran = await box.exec("pytest -q", cpu_s=60)
            assert "1 passed" in ran.stdout
        await asyncio.to_thread(sandbox.close)


# Limits of a command.


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "while true; do :; done",
        "trap '' XCPU; while true; do :; done",
        "cd / && python3 -c 'while True: pass'",
        "setsid python3 -c 'while True: pass' & wait $!",
    ],
)
async def test_cpu_seconds_are_limited(box: Session, command: str) -> None:
    ran = await box.exec(command, cpu_s=1, wall_s=30)
    assert (ran.limit, ran.ok) == ("cpu", False)
    assert ran.wall_s < 20
    assert (await box.exec("echo on")).stdout == "on\n"


@pytest.mark.slow
@in_namespaces
async def test_processes_that_come_and_go_are_limited_together() -> None:
    sandbox = Sandbox()
    async with sandbox.session() as box:
        short = "import time\nwhile time.process_time() < 0.15: pass"
        ran = await box.exec(f"while true; do python3 -c '{short}'; done", cpu_s=1, wall_s=30)
        assert ran.limit == "cpu"
    await asyncio.to_thread(sandbox.close)


async def test_a_sleeper_meets_its_wall_seconds_and_the_session_goes_on(box: Session) -> None:
    ran = await box.exec("echo before; sleep 77", wall_s=0.5)
    assert (ran.limit, ran.stdout, ran.exit_status) == ("wall", "before\n", -signal.SIGKILL)
    cell = await box.python("import time; time.sleep(77)", wall_s=0.5)
    assert (cell.limit, cell.value) == ("wall", None)
    assert cell.stderr == "sandbox: the interpreter has ended; its variables are gone\n"
    assert (await box.python("1")).stderr == ""


async def test_a_killed_command_leaves_the_background_of_earlier_ones_alone(box: Session) -> None:
    await box.exec("sleep 1000 & echo $! > pid")
    assert (await box.exec("sleep 1000 & sleep 1000", wall_s=0.3)).limit == "wall"
    assert (await box.exec("kill -0 $(cat pid)")).ok


@pytest.mark.parametrize("command", ["yes", "yes >&2", "cat /dev/zero", "head -c 1G /dev/zero & wait"])
async def test_output_is_limited(box: Session, command: str) -> None:
    ran = await box.exec(command, output_bytes=1000)
    assert (ran.limit, max(len(ran.stdout), len(ran.stderr))) == ("output", 1000)
    assert (await box.exec("echo on")).stdout == "on\n"


async def test_a_cells_output_is_limited(box: Session) -> None:
    cell = await box.python("while True: print('x' * 1000)", output_bytes=10_000)
    assert (cell.limit, len(cell.stdout)) == ("output", 10_000)


async def test_output_at_the_limit_is_whole(box: Session) -> None:
    ran = await box.exec("head -c 1000 /dev/zero", output_bytes=1000)
    assert (ran.limit, len(ran.stdout)) == (None, 1000)


async def test_memory_is_limited(make: Make) -> None:
    async with make(memory_bytes=128 << 20) as box:
        assert (await box.python("bytearray(1 << 30)")).limit == "memory"
        assert (await box.python("2")).value == "2"
        ran = await box.exec("python3 -c 'bytearray(1 << 30)'")
        assert ran.stderr.endswith("MemoryError\n")


@pytest.mark.slow
@in_namespaces
async def test_memory_of_all_processes_together_is_limited_and_the_session_goes_on() -> None:
    sandbox = Sandbox()
    async with sandbox.session(memory_bytes=128 << 20) as box:
        hold = "import time; held = bytearray(b'1') * (60 << 20); time.sleep(77)"
        ran = await box.exec(f'for i in 1 2 3 4; do python3 -c "{hold}" & done; wait', wall_s=20)
        assert ran.limit == "memory"
        ran = await box.exec("echo on")
        assert (ran.stdout, ran.ok) == ("on\n", True)
        assert "too much memory together" in ran.stderr
        assert (await box.exec("echo on")).stderr == ""
    await asyncio.to_thread(sandbox.close)


async def test_disk_is_limited(box: Session) -> None:
    ran = await box.exec("head -c 80M /dev/zero > x")
    assert not ran.ok
    await box.exec("rm x; for i in 1 2 3 4 5 6 7 8; do head -c 10M /dev/zero > x$i; done")
    with pytest.raises(ToolError, match="can't write 'y': no space left on device"):
        await box.write("y", b"0" * (10 << 20))
    await box.exec("rm x*")
    await box.write("y", "1")


@pytest.mark.slow
async def test_a_fork_bomb_is_bounded_and_the_session_frees_itself(make: Make) -> None:
    async with make(processes=16) as box:
        ran = await box.exec("f() { f | f & }; f; for i in $(seq 40); do sleep 1000 & done", wall_s=2)
        assert ran.limit == "wall"  # bash tries again and again
        ran = await box.exec("echo on")
        assert ran.stdout == "on\n"
        assert ran.stderr in ("", "sandbox: the box held as many processes as it may; all were killed\n")
        bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
        await box.exec(f"setsid python3 -c '{bomb}' & sleep 0.5", wall_s=2)
        assert (await box.exec("echo on")).stdout == "on\n"
        assert (await box.python("1")).value == "1"


# Limits of a session.


@pytest.mark.slow
async def test_cpu_seconds_of_the_session_are_limited(make: Make) -> None:
    async with make(cpu_s=2) as box:
        for _ in range(3):
            await box.exec("python3 -c 'while True: pass'", cpu_s=1)
        ran = await box.exec("echo on")
        assert (ran.limit, ran.stdout, ran.ok) == ("cpu", "", False)
        assert "used up its cpu" in ran.stderr
        assert (await box.python("1")).limit == "cpu"


@pytest.mark.slow
@in_namespaces
async def test_background_processes_can_not_outrun_the_sessions_cpu_seconds() -> None:
    sandbox = Sandbox()
    async with sandbox.session(cpu_s=2) as box:
        await box.exec("for i in 1 2 3; do setsid python3 -c 'while True: pass' & done")
        deadline = time.monotonic() + 30
        while (await box.exec("true")).ok:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
        assert (await box.exec("true")).limit == "cpu"
    await asyncio.to_thread(sandbox.close)


async def test_wall_seconds_and_output_of_the_session_are_limited_and_its_files_can_still_be_read(make: Make) -> None:
    async with make(wall_s=0.5, files={"kept": "1"}) as box:
        assert (await box.exec("sleep 77")).limit == "wall"
        ran = await box.exec("true")
        assert (ran.limit, ran.stderr) == ("wall", "sandbox: the session has used up its wall and is over\n")
        assert await box.read("kept") == "1"
    async with make(output_bytes=1000) as box:
        assert (await box.exec("head -c 600 /dev/zero")).ok
        assert (await box.exec("head -c 600 /dev/zero")).limit == "output"
        assert (await box.exec("true")).limit == "output"


async def test_background_output_is_limited_too(make: Make) -> None:
    async with make(output_bytes=1 << 20) as box:
        await box.exec("yes & echo $! > pid")
        deadline = time.monotonic() + 20
        while (await box.exec("kill -0 $(cat pid)", output_bytes=2000)).ok:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


# Ends.


async def test_a_cancelled_command_is_killed_and_the_session_goes_on(box: Session) -> None:
    for run in (box.exec("sleep 0.7; touch late"), box.python("import time; time.sleep(0.7); open('late', 'w')")):
        running = asyncio.ensure_future(run)
        await asyncio.sleep(0.2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert (await box.python("1")).value == "1"
    await asyncio.sleep(1)
    assert await box.list() == ()


@in_namespaces
@pytest.mark.parametrize("how", ["leave", "raise", "cancel"])
async def test_nothing_is_left_when_the_block_is_left(how: str) -> None:
    mark = f"101{os.getpid()}{len(how)}"
    sandbox = Sandbox()

    async def play() -> None:
        async with sandbox.session() as box:
            await box.exec(f"setsid sleep {mark} & nohup sleep {mark} & sleep {mark} & sleep 0.1")
            await box.python(f"import subprocess; p = subprocess.Popen(['sleep', '{mark}'], start_new_session=True)")
            assert are_within(5, mark, 4)
            if how == "raise":
                raise KeyError
            if how == "cancel":
                playing.cancel()
                await box.exec(f"sleep {mark}")

    playing = asyncio.ensure_future(play())
    ends = {"leave": nullcontext(), "raise": pytest.raises(KeyError), "cancel": pytest.raises(asyncio.CancelledError)}
    with ends[how]:
        await playing
    assert processes_with(mark) == []
    await asyncio.to_thread(sandbox.close)


async def test_what_waits_for_a_session_that_closes_is_lost_and_a_closed_one_takes_nothing_more(make: Make) -> None:
    box = await make().open()
    running = asyncio.ensure_future(box.exec("sleep 77"))
    await asyncio.sleep(0.1)
    await box.close()
    await box.close()
    for late in (running, box.exec("true"), box.read("x")):
        with pytest.raises(WorkerLostError, match="the session is closed"):
            await late
    with pytest.raises(WorkerLostError, match="opened only once"):
        await box.open()
    with pytest.raises(WorkerLostError, match="not open"):
        await make().exec("true")
    await make().close()


@pytest.mark.slow
@in_namespaces
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_session_ends_with_the_process_that_owns_it(number: signal.Signals) -> None:
    mark = f"102{os.getpid()}{int(number)}"
    code = f"""
import asyncio
from gym_core.processes import Sandbox
async def main():
    async with Sandbox().session() as box:
        await box.exec("setsid sleep {mark} &")
        print("ready", flush=True)
        await box.exec("sleep {mark}")
asyncio.run(main())
"""
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    assert owner.stdout
    with owner.stdout:
        assert owner.stdout.readline() == b"ready\n"
    owner.send_signal(number)
    owner.wait()
    assert are_within(5, mark, 0)


# Whose fault it is.


def status_of(pid: int, name: str) -> list[str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1:] for line in lines if line.startswith(name))


def server_of(mark: str) -> int:
    """The first process of the box in which something runs."""
    pid = processes_with(mark)[0]
    while status_of(pid, "NSpid:")[-1] != "1":
        pid = int(status_of(pid, "PPid:")[0])
    return pid


@in_namespaces
@pytest.mark.parametrize("whom", ["server", "zygote"])
async def test_a_session_killed_from_outside_is_lost(whom: str) -> None:
    sandbox = Sandbox()
    mark = f"103{os.getpid()}{len(whom)}"
    async with sandbox.session() as box:
        running = asyncio.ensure_future(box.exec(f"sleep {mark}; true"))
        await asyncio.sleep(0.5)
        server = server_of(mark)
        os.kill(server if whom == "server" else int(status_of(server, "PPid:")[0]), signal.SIGKILL)
        with pytest.raises(WorkerLostError, match="the session was lost"):
            await running
        with pytest.raises(WorkerLostError, match="the session was lost"):
            await box.read("x")
    async with sandbox.session() as box:
        assert (await box.exec("echo new")).stdout == "new\n"
    await asyncio.to_thread(sandbox.close)


@in_namespaces
async def test_a_closed_sandbox_ends_its_sessions_and_opens_no_more() -> None:
    sandbox = Sandbox()
    async with sandbox.session() as box:
        await asyncio.to_thread(sandbox.close)
        with pytest.raises(WorkerLostError):
            await box.exec("true")
    with pytest.raises(WorkerLostError, match="the sandbox is closed"):
        await sandbox.session().open()


@in_namespaces
@pytest.mark.slow
async def test_a_sandbox_that_closes_while_a_session_opens_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(1)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    sandbox = Sandbox(["slow_to_import"])
    box = sandbox.session()
    opening = asyncio.ensure_future(box.open())
    await asyncio.sleep(0.3)
    await asyncio.to_thread(sandbox.close)
    with pytest.raises(WorkerLostError):
        await opening


@contextmanager
def hogs(count: int) -> Iterator[None]:
    # Each in a session of its own, since the kernel may share cores among sessions (sched(7), autogroup).
    code = [sys.executable, "-c", "while True: pass"]
    running = [subprocess.Popen(code, start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for hog in running:
            hog.kill()
            hog.wait()


@pytest.mark.slow
@in_namespaces
async def test_a_command_that_is_kept_from_the_processor_is_lost_and_not_at_fault() -> None:
    sandbox = Sandbox()
    async with sandbox.session() as box:
        await box.exec("true")
        with hogs(4 * (os.cpu_count() or 1)), pytest.raises(WorkerLostError, match="the machine is too slow"):
            await box.exec("python3 -c 'while True: pass'", wall_s=3, cpu_s=10)
    await asyncio.to_thread(sandbox.close)


async def test_where_nothing_isolates_no_session_opens() -> None:
    sandbox = Sandbox(isolation="none")
    with pytest.raises(WorkerLostError, match="needs namespaces or Docker"):
        await sandbox.session().open()
    await asyncio.to_thread(sandbox.close)


async def test_a_program_that_is_not_there_is_no_fault_of_the_commands() -> None:
    sandbox = Sandbox(isolation=Docker("python:3.12-slim", program="no-such-docker"))
    with pytest.raises(WorkerLostError, match="no-such-docker can't be started"):
        await sandbox.session().open()
    await asyncio.to_thread(sandbox.close)


async def test_a_container_that_does_not_start_is_lost_with_its_reason() -> None:
    sandbox = Sandbox(isolation=Docker("no image", program="ls"))
    with pytest.raises(WorkerLostError, match=r"the session was lost: .*interactive"):
        await sandbox.session().open()
    await asyncio.to_thread(sandbox.close)


async def test_what_is_no_command_or_cell_is_told_to_the_policy(box: Session) -> None:
    for wrong in (box.exec("echo \0"), box.exec("x" * (1 << 20)), box.python("x" * (1 << 20))):
        with pytest.raises(ToolError, match="must have"):
            await wrong
    assert (await box.exec(f": {'x' * 100_000}; echo '\ud800'")).ok


def test_too_little_memory_for_a_server_is_refused() -> None:
    with pytest.raises(ValueError, match="memory_bytes must be at least"):
        Sandbox().session(memory_bytes=1 << 20)


async def test_files_that_can_not_be_there_are_their_authors_mistake(make: Make) -> None:
    for name in ("../x", "/etc/x", "", "a\0"):
        with pytest.raises(ValueError, match="can't"):
            await make(files={name: ""}).open()


# What can't be done from inside.

OF_THE_SERVER = [
    *[f"os.kill(1, {number})" for number in (9, 15, 19, 2, 3, 10, 17, 24, 31, 34, 64)],
    "signal.pidfd_send_signal(os.pidfd_open(1), 9)",
    "resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0))",
    "resource.prlimit(1, resource.RLIMIT_CPU, (0, 0))",
    "os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0))",
    "os.sched_setaffinity(1, [0])",
    "os.setpriority(os.PRIO_PROCESS, 1, 19)",
    "os.setpriority(os.PRIO_USER, 0, 19)",
    "os.setpriority(os.PRIO_PGRP, os.getpgid(1), 19)",
    "libc.ptrace(16, 1, 0, 0) == -1 and fail()",
    "libc.ptrace(0x4206, 1, 0, 0) == -1 and fail()",
    "libc.process_vm_readv(1, 0, 0, 0, 0, 0) == -1 and fail()",
    "open('/proc/1/mem', 'rb')",
    "open('/proc/1/environ', 'rb').read()",
    "os.listdir('/proc/1/fd')",
]


@pytest.mark.parametrize("attack", OF_THE_SERVER)
async def test_the_server_can_not_be_reached(box: Session, attack: str) -> None:
    code = (
        "import ctypes, os, resource, signal\nlibc = ctypes.CDLL(None)\n"
        f"def fail(): raise PermissionError\ntry:\n    {attack}\nexcept OSError: print('refused')\n"
    )
    await box.write("attack.py", code)
    ran, cell = await box.exec("python3 attack.py"), await box.python(code)
    is_signal = attack.startswith(("os.kill", "signal."))
    assert (ran.exit_status, ran.stdout) == (0, "" if is_signal else "refused\n"), ran
    assert (cell.exit_status, cell.stdout) == (0, "" if is_signal else "refused\n"), cell
    assert (await box.exec("echo on")).stdout == "on\n"
    assert (await box.python("1")).value == "1"


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["kill -9 -1", "kill -STOP -1", "kill -TERM -1; kill -9 -- -1; kill -HUP -1"])
async def test_killing_or_stopping_everything_does_not_end_the_session(box: Session, attack: str) -> None:
    await box.python("x = 1")
    await box.exec("sleep 1000 &")
    await box.exec(attack, wall_s=2)
    assert (await box.exec("echo on")).stdout == "on\n"
    assert (await box.python("1", wall_s=5)).exit_status in (0, -signal.SIGKILL)
    assert (await box.python("1", wall_s=5)).value == "1"


async def test_an_interpreter_that_was_killed_meanwhile_is_told_by_the_next_cell(box: Session) -> None:
    await box.python("x = 1")
    await box.exec("kill -9 -1")
    await asyncio.sleep(0.1)
    cell = await box.python("x")
    assert "NameError" in cell.stderr
    assert cell.stderr.endswith("this is a new one, earlier variables are gone\n")
    assert (await box.python("import os; os._exit(3)")).exit_status == 3


@pytest.mark.slow
async def test_interpreters_that_end_between_cells_leave_no_descriptors_behind(box: Session) -> None:
    for _ in range(140):  # more than half of the descriptors that the server may have
        await box.exec("kill -9 -1; sleep 0.02")
        assert (await box.python("1")).value == "1"


async def test_a_stopped_interpreter_does_not_hold_up_the_session(box: Session) -> None:
    await box.python("import os; pid = os.getpid(); open('pid', 'w').write(str(pid))")
    await box.exec("kill -STOP $(cat pid)")
    cell = await box.python("1", wall_s=0.5)
    assert cell.limit == "wall"
    assert (await box.python("1")).value == "1"


async def test_no_descriptor_of_the_server_is_open_in_what_it_starts(box: Session) -> None:
    code = """
import os
def closed(n):
    try: os.fstat(n)
    except OSError: return True
print([n for n in range(3, 1024) if not closed(n)])
"""
    await box.exec("sleep 100 &")
    await box.write("look.py", code)
    assert (await box.exec("python3 look.py")).stdout == "[]\n"
    kinds = "import socket\n[socket.socket(fileno=os.dup(n)).type.name for n in range(3, 1024) if not closed(n)]"
    assert (await box.python(code + kinds)).value == "['SOCK_SEQPACKET']"


@in_namespaces
async def test_neither_variables_nor_files_of_the_owner_can_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("of the host")
    monkeypatch.setenv("SECRET", "of the host")
    sandbox = Sandbox()
    async with sandbox.session() as box:
        assert "SECRET" not in (await box.exec("env; set")).stdout
        assert (await box.python("import os; 'SECRET' in os.environ")).value == "False"
        assert not (await box.exec(f"cat {tmp_path}/secret {__file__} /etc/passwd")).stdout
        assert not (await box.exec("touch /usr/x || touch /x")).ok
    await asyncio.to_thread(sandbox.close)


@pytest.mark.parametrize(
    ("code", "exit_status"),
    [
        ("import os\nos.closerange(0, 1024)", None),
        ("import os\nfor n in range(3, 64):\n    try: os.write(n, b'0:=forged')\n    except OSError: pass\n1", 0),
        ("import os\nfor n in range(3, 64):\n    try: os.write(n, b'\\xff' * 100_000)\n    except OSError: pass\n1", 1),
        ("import os\nif os.fork() == 0: 2\nos.getpid() and 1", 0),
        ("import sys\nsys.stdout = None\n1", 0),
        ("import sys\nsys.stdout.close()\n1", 0),
        pytest.param("import os\nos.kill(os.getpid(), 19)", -9, marks=pytest.mark.slow),
    ],
)
async def test_a_cell_that_breaks_its_interpreter_breaks_no_more(
    box: Session, code: str, exit_status: int | None
) -> None:
    cell = await box.python(code, wall_s=3)
    assert exit_status is None or cell.exit_status == exit_status, cell
    cell = await box.python("import sys, os\n1 + 1", wall_s=3)
    if cell.value != "2":  # a forged answer was behind the true one
        cell = await box.python("1 + 1", wall_s=3)
    assert (await box.exec("echo on")).stdout == "on\n"


PATHS: list[tuple[str, str]] = [
    ("link", "leads out of /box"),
    ("up/passwd", "leads out of /box"),
    ("../etc/passwd", "leads out of /box"),
    ("/etc/passwd", "leads out of /box"),
    ("/dev/zero", "leads out of /box"),
    ("loop", "too many levels of symbolic links"),
    ("l0", "(too many levels of symbolic links|no such file or directory)"),  # the latter from Python 3.13 on
    ("fifo", "special file"),
    ("socket", "(special file|no such device or address)"),
    ("directory", "directory"),
    ("", "directory"),
    ("missing", "no such file or directory"),
    ("x" * 5000, "file name too long"),
    ("x/" * 500_000, "file name too long"),
    ("a\0b", "not a path"),
    ("\ud800", "not a path"),
    ("huge", "more than"),
    ("closed", "permission denied"),
]


async def test_what_can_not_be_read_is_told_in_a_sentence_and_holds_up_nothing(box: Session) -> None:
    await box.exec(
        "ln -s /etc/passwd link; ln -s /etc up; ln -s loop loop; mkfifo fifo; mkdir directory; echo 1 > closed;"
        "chmod 0 closed; python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('socket')\";"
        "truncate -s 60M huge; python3 -c \"import os; [os.symlink(f'l{n + 1}', f'l{n}') for n in range(1500)]\""
    )
    for path, reason in PATHS:
        with pytest.raises(ToolError, match=rf"^can't .*{reason}"):
            await box.read(path)
        if path not in ("", "directory"):
            with pytest.raises(ToolError, match=r"^can't "):
                await box.list(path)
    await box.write("bytes", b"\xff")
    with pytest.raises(ToolError, match="not text"):
        await box.read("bytes")


async def test_nothing_is_written_outside_or_into_special_files(box: Session) -> None:
    await box.exec(
        "ln -s /tmp/../etc/x link; ln -s /usr up; mkfifo fifo; mkdir directory; sleep 100 < fifo & sleep 0.1"
    )
    for path in ("link", "up/x", "../x", "/x", "fifo", "directory", "directory/", "", "a\0b", "/dev/null"):
        with pytest.raises(ToolError, match=r"^can't "):
            await box.write(path, "1")
    with pytest.raises(ToolError, match="at most"):
        await box.write("x", b"0" * (17 << 20))


async def test_links_inside_and_strange_names_work(box: Session) -> None:
    await box.exec("mkdir d; echo 1 > d/f; ln -s d e; ln -s d/f g; touch $'a\\nb' $'\\xff' ./-rf; ln -s /etc outside")
    assert await box.read("e/f") == await box.read("g") == await box.read("/box/d/../d/f") == "1\n"
    assert await box.list() == ("-rf", "\\xff", "a\nb", "d/", "e", "g", "outside")
    await box.write("a\nb", "2")
    assert await box.read("a\nb") == "2"


async def test_a_link_put_in_the_way_at_the_last_moment_leads_nowhere(box: Session) -> None:
    await box.exec(
        "mkdir d; while true; do ln -sfn /usr d 2>/dev/null; rm -rf d; mkdir d; ln -sfn /usr/lib d/x; done &"
    )
    outside: set[Any] = set()
    for _ in range(200):
        try:
            outside.update(await box.list("d"))
        except ToolError:
            continue
    assert not outside & {"bin", "share"}


async def test_many_names_are_refused_by_the_box_or_not_listed(box: Session) -> None:
    ran = await box.exec("for i in $(seq 5000); do : > $i || break; done 2>&1", wall_s=30)
    if ran.exit_status == 0 and not ran.stdout:
        with pytest.raises(ToolError, match="more than 4096 names"):
            await box.list()
    else:
        assert "No space left on device" in ran.stdout
    assert (await box.exec("rm *; echo on")).stdout == "on\n"


@pytest.mark.slow
async def test_the_event_loop_is_never_blocked(make: Make) -> None:
    async def beat() -> float:
        longest = 0.0
        while not done.is_set():
            started_s = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - started_s)
        return longest

    done = asyncio.Event()
    beating = asyncio.ensure_future(beat())
    async with make(processes=32) as box:
        await asyncio.gather(
            box.exec("yes", output_bytes=1 << 20),
            box.exec("f() { f | f & }; f; sleep 1", wall_s=2),
            box.exec("sleep 77", wall_s=1),
            box.python("while True: print('x' * 100_000)", output_bytes=4 << 20),
        )
        await box.exec("kill -9 -1")
        await box.write("x", b"0" * (16 << 20))
        await box.read_bytes("x")
    done.set()
    assert await beating < 0.5
