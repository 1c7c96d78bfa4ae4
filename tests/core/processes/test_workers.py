"""Workers: limits of a child process, and that none is ever left behind."""

import asyncio
import contextlib
import mmap
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gym_core.errors import WorkerError, WorkerHungError, WorkerLostError
from gym_core.processes import Workers, shared_workers
from gym_core.processes.kernel import PsUsage

ROOT = str(Path(__file__).parents[3])

# What the children run; they import this module.


IMPORTER = os.getpid()


def parent_of_import() -> int:
    return IMPORTER


def parent_pid() -> int:
    return os.getppid()


def double(number: int) -> int:
    return 2 * number


def environment() -> list[str]:
    return list(os.environ)


def pid() -> int:
    return os.getpid()


def raise_key_error() -> None:
    raise KeyError("no such key")


def leave() -> None:
    sys.exit("this ends a program")


def loop() -> None:
    while True:
        pass


def backtrack() -> None:
    re.match("(a+)+$", "a" * 64 + "b")  # a loop in C that holds the GIL


def fill_memory() -> None:
    bytearray(1 << 40)


def die() -> None:
    os._exit(3)


def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


def loop_in_a_crowd() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core for all
    loop()


def print_everywhere() -> str:
    print("x" * 100_000)
    os.write(1, b"y" * 100_000)
    sys.stderr.write("z")
    subprocess.run(["echo", "hello"], check=True)
    return "printed"


def fork() -> str:
    os.fork()
    return "one answer"


def leave_a_program_behind() -> int:
    return subprocess.Popen(["sleep", "600"]).pid


def leave_a_daemon_behind() -> int:
    """The process id of a loop in a session of its own, whose parent is gone."""
    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(theirs, str(os.getpid()).encode())
            loop()
        os._exit(0)
    return int(os.read(ours, 20))


def leave_a_thread_behind() -> int:
    threading.Thread(target=loop, daemon=True).start()
    return os.getpid()


def leave_an_alarm_behind() -> int:
    signal.alarm(1)
    return os.getpid()


def kill_parent() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    loop()


def spoil_the_next_call() -> str:
    pickle.loads = lambda _: os._exit(1)
    return "answered"


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def close_everything() -> None:
    os.closerange(0, 1000)
    loop()


def garble() -> None:
    for descriptor in range(3, 30):
        with contextlib.suppress(OSError):
            os.write(descriptor, b"[[[\n")
    loop()


def dribble() -> None:
    while True:
        time.sleep(0.01)
        for descriptor in range(3, 30):
            with contextlib.suppress(OSError):
                os.write(descriptor, b" ")


def answer_at_length() -> str:
    return "x" * (17 << 20)


def poison(number: int) -> int:
    if number % 16 == 0:
        loop()
    return number


def write_pid_and(path: str, name: str) -> None:
    Path(path).write_text(str(os.getpid()), encoding="utf-8")
    globals()[name]()


def compute_in_a_thread(seconds: float) -> float:
    thread = threading.Thread(target=compute, args=(seconds,))
    thread.start()
    thread.join()
    return 1.0


def compute_in_a_process(seconds: float) -> float:
    pid = os.fork()
    if pid == 0:
        compute(seconds)
        os._exit(0)
    os.waitpid(pid, 0)
    return 1.0


def compute(seconds: float) -> None:
    until_s = time.thread_time() + seconds
    while time.thread_time() < until_s:
        sum(range(1000))


MAPPED = mmap.mmap(-1, 1 << 30)  # as a large library may


def mapped_bytes() -> int:
    return len(MAPPED)


# The tests.


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    workers = Workers(1, memory_bytes=2 << 30)
    yield workers
    workers.close()


def is_alive(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def ends_within(seconds: float, process: int) -> bool:
    return holds_within(seconds, lambda: not is_alive(process))


def holds_within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


async def test_returns_the_result_of_a_function(workers: Workers) -> None:
    assert await workers.call(double, 21) == 42


async def test_a_child_stays_warm(workers: Workers) -> None:
    assert await workers.call(pid) == await workers.call(pid) != os.getpid()


async def test_an_exception_comes_back_with_its_type_and_text(workers: Workers) -> None:
    first = await workers.call(pid)
    with pytest.raises(WorkerError, match=r"^KeyError: 'no such key'$") as caught:
        await workers.call(raise_key_error)
    assert type(caught.value) is WorkerError
    assert await workers.call(pid) == first


async def test_a_function_cannot_end_its_child_by_sys_exit(workers: Workers) -> None:
    with pytest.raises(WorkerError, match="SystemExit: this ends a program"):
        await workers.call(leave)


async def test_a_result_that_json_cannot_hold_is_an_error(workers: Workers) -> None:
    with pytest.raises(WorkerError, match="TypeError: Object of type set"):
        await workers.call(set)


async def test_a_function_that_cannot_be_imported_is_lost(workers: Workers) -> None:
    with pytest.raises(WorkerLostError, match="could not import"):
        await workers.call(lambda: 1)


async def test_a_function_that_cannot_be_called_is_refused_in_one_sentence(workers: Workers) -> None:
    with pytest.raises(WorkerLostError, match=r"could not import .*lambda.*must be a top-level function"):
        await workers.call(lambda: 1)
    with pytest.raises(WorkerLostError, match=r"the arguments of .*:double must be picklable, and are not"):
        await workers.call(double, lambda: 1)
    with pytest.raises(WorkerLostError, match=r"a function's name must be 'package\.module:function', not 'double'"):
        await workers.call("double")
    with pytest.raises(WorkerError, match="the result of builtins:set must be JSON: TypeError"):
        await workers.call(set)


@pytest.mark.slow
@pytest.mark.parametrize("function", [loop, backtrack])
async def test_a_loop_is_hung_and_the_next_call_works(workers: Workers, function: Callable[[], None]) -> None:
    first = await workers.call(pid)
    with pytest.raises(WorkerHungError, match=r"more than 0\.2 CPU seconds"):
        await workers.call(function, cpu_s=0.2)
    assert not is_alive(first)
    assert await workers.call(double, 2) == 4


async def test_too_much_memory_is_hung(workers: Workers) -> None:
    with pytest.raises(WorkerHungError, match="bytes of memory"):
        await workers.call(fill_memory)
    assert await workers.call(double, 2) == 4


async def test_a_child_that_exits_is_lost(workers: Workers) -> None:
    with pytest.raises(WorkerLostError, match="exit status 3"):
        await workers.call(die)
    assert await workers.call(double, 2) == 4


@pytest.mark.slow
async def test_a_call_whose_used_worker_is_killed_runs_again_and_then_is_lost(workers: Workers) -> None:
    first = await workers.call(pid)
    call = asyncio.ensure_future(workers.call(sleep, 0.5))
    await asyncio.sleep(0.1)
    os.kill(first, signal.SIGKILL)
    assert await call == "slept"
    with pytest.raises(WorkerLostError, match="signal 9"):
        await workers.call(kill_itself)
    assert await workers.call(pid) != first


async def test_a_call_is_not_lost_to_what_an_earlier_one_has_done(workers: Workers) -> None:
    assert await workers.call(spoil_the_next_call) == "answered"
    assert await workers.call(double, 2) == 4


@pytest.mark.slow
async def test_a_worker_is_replaced_after_ten_thousand_calls(workers: Workers) -> None:
    first = await workers.call(pid)
    answers = await asyncio.gather(*[workers.call(pid) for _ in range(10_000)])
    assert answers[0] == first != answers[-1]


async def test_a_child_killed_while_idle_is_replaced(workers: Workers) -> None:
    child = await workers.call(pid)
    os.kill(child, signal.SIGKILL)
    await asyncio.sleep(0.3)
    assert await workers.call(double, 2) == 4


@pytest.mark.slow
async def test_sleep_is_not_cpu_time(workers: Workers) -> None:
    assert await workers.call(sleep, 0.4, cpu_s=0.1) == "slept"
    with pytest.raises(WorkerHungError, match=r"slept for more than 0\.2 seconds"):
        await workers.call(sleep, 60, sleep_s=0.2)


@pytest.mark.slow
async def test_a_worker_whose_threads_or_processes_compute_is_not_asleep(workers: Workers) -> None:
    assert await workers.call(compute_in_a_thread, 1.0, sleep_s=0.3) == 1.0
    assert await workers.call(compute_in_a_process, 1.0, sleep_s=0.3) == 1.0
    with pytest.raises(WorkerHungError, match=r"more than 0\.3 CPU seconds"):
        await workers.call(compute_in_a_process, 60.0, cpu_s=0.3)


@pytest.mark.slow
async def test_memory_is_limited_above_what_the_modules_map() -> None:
    workers = Workers(1, memory_bytes=64 << 20)
    assert await workers.call(mapped_bytes) == 1 << 30
    with pytest.raises(WorkerHungError, match="bytes of memory"):
        await workers.call(fill_memory)
    workers.close()


@pytest.fixture
def crowd() -> Iterator[None]:
    """Forty processes that loop on one core."""
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nwhile True: pass"
    processes = [subprocess.Popen([sys.executable, "-c", code], start_new_session=True) for _ in range(40)]
    yield
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.usefixtures("crowd")
async def test_the_input_is_not_to_blame_for_a_slow_machine(workers: Workers) -> None:
    with pytest.raises(WorkerLostError, match="the machine is too slow"):
        await workers.call(loop_in_a_crowd, cpu_s=0.4, sleep_s=0.1)


def test_a_child_gets_no_variable_that_is_not_on_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_API_KEY", "1")
    monkeypatch.setenv("HF_TOKEN", "1")
    workers = Workers(1)
    names = asyncio.run(workers.call(environment))
    workers.close()
    assert not {"SECRET_API_KEY", "HF_TOKEN"} & {*names}
    assert {"PATH", "OMP_NUM_THREADS"} <= {*names}


async def test_prints_do_not_get_into_the_answers(workers: Workers) -> None:
    assert await workers.call(print_everywhere) == "printed"
    assert await workers.call(double, 2) == 4


async def test_a_function_that_forks_answers_once(workers: Workers) -> None:
    assert await workers.call(fork) == "one answer"
    await asyncio.sleep(0.1)
    assert await workers.call(double, 2) == 4


@pytest.mark.parametrize("leave", [leave_a_thread_behind, leave_an_alarm_behind])
async def test_a_worker_in_which_a_call_left_something_is_replaced(workers: Workers, leave: Callable[[], int]) -> None:
    first = await workers.call(leave)
    assert await workers.call(pid) != first


async def test_a_daemon_ends_with_the_call_that_started_it(workers: Workers) -> None:
    assert ends_within(5, await workers.call(leave_a_daemon_behind))
    assert await workers.call(double, 2) == 4


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (kill_parent, "died with its zygote"),
        (close_everything, "the worker died"),
        (garble, "garbled its answer"),
    ],
)
async def test_a_worker_that_breaks_its_own_ties_is_lost(
    workers: Workers, function: Callable[[], None], reason: str
) -> None:
    first = await workers.call(pid)
    with pytest.raises(WorkerLostError, match=reason):
        await workers.call(function)
    assert ends_within(5, first)
    assert await workers.call(double, 2) == 4


async def test_an_answer_without_end_is_hung(workers: Workers) -> None:
    with pytest.raises(WorkerHungError, match="answered with more than 16777216 bytes"):
        await workers.call(answer_at_length)


async def test_an_answer_that_never_comes_to_its_end_is_hung(workers: Workers) -> None:
    with pytest.raises(WorkerHungError, match=r"slept for more than 0\.2 seconds"):
        await workers.call(dribble, sleep_s=0.2)


async def test_a_function_can_be_named() -> None:
    workers = Workers(1)
    assert await workers.call("operator:add", 40, 2) == 42
    with pytest.raises(WorkerLostError, match=r"could not import no\.such\.module: ModuleNotFoundError"):
        await workers.call("no.such.module:function")
    workers.close()


async def test_a_worker_is_forked_with_the_module_imported(workers: Workers) -> None:
    assert await workers.call("tests.core.processes.test_workers:parent_of_import") == await workers.call(parent_pid)


async def test_a_module_that_starts_threads_is_imported_by_each_worker(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "import os, threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    (tmp_path / "threaded.py").write_text(f"{source}pid = os.getpid()\ndef importer(): return pid\n")
    monkeypatch.syspath_prepend(tmp_path)
    await asyncio.gather(workers.call("threaded:importer"), workers.call(pid))
    assert await workers.call("threaded:importer") == await workers.call(pid) != await workers.call(parent_pid)


@pytest.mark.slow
async def test_poison_among_many_calls_costs_no_other_answer() -> None:
    workers = Workers(2)
    calls = [workers.call(poison, number, cpu_s=0.3) for number in range(64)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    workers.close()
    assert [answer for answer in answers if isinstance(answer, int)] == [n for n in range(64) if n % 16]
    assert [type(answer) for answer in answers[::16]] == [WorkerHungError] * 4


def test_two_threads_with_their_own_loops_share_a_pool(workers: Workers) -> None:
    answers: list[int] = []

    def run() -> None:
        answers.append(asyncio.run(workers.call(double, 4)))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [8, 8]


@pytest.mark.slow
async def test_cancellation_kills_the_child_and_frees_the_pool(workers: Workers) -> None:
    child = await workers.call(pid)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(workers.call(sleep, 60), 0.1)
    assert await workers.call(double, 2) == 4
    assert not is_alive(child)


async def test_a_call_cancelled_in_the_queue_never_runs(workers: Workers) -> None:
    child = await workers.call(pid)
    running = asyncio.ensure_future(workers.call(sleep, 0.3))
    queued = asyncio.ensure_future(workers.call(die))
    await asyncio.sleep(0.1)
    queued.cancel()
    assert await running == "slept"
    assert await workers.call(pid) == child


@pytest.mark.slow
async def test_close_kills_the_children_and_loses_their_calls() -> None:
    workers = Workers(1)
    child = await workers.call(pid)
    program = await workers.call(leave_a_program_behind)
    calls = [asyncio.ensure_future(workers.call(sleep, 60)) for _ in range(3)]
    await asyncio.sleep(0.1)
    await asyncio.to_thread(workers.close)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers] == [WorkerLostError] * 3
    assert ends_within(5, child)
    assert ends_within(5, program)
    with pytest.raises(WorkerLostError, match="closed"):
        await workers.call(double, 2)


def test_many_threads_share_a_pool() -> None:
    workers = Workers(2)
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda number: asyncio.run(workers.call(double, number)), range(200)))
    workers.close()
    assert answers == list(range(0, 400, 2))


async def test_an_interpreter_that_cannot_be_started_loses_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(1)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(WorkerLostError, match="/nowhere/python can't be started"):
            await workers.call(double, 1)
    assert await workers.call(double, 1) == 2
    await asyncio.to_thread(workers.close)


def test_nothing_seems_to_be_asleep_because_ps_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ps").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "ps").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(subprocess.CalledProcessError):
        PsUsage(os.getpid())


def test_a_loop_that_is_closed_early_costs_no_worker(workers: Workers) -> None:
    async def leave() -> None:
        asyncio.get_running_loop().call_later(0.2, asyncio.get_running_loop().stop)
        await workers.call(sleep, 60)

    loop = asyncio.new_event_loop()
    task = loop.create_task(leave())
    loop.run_forever()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    assert asyncio.run(workers.call(double, 4)) == 8


@pytest.mark.slow
def test_a_forked_process_has_workers_of_its_own(workers: Workers) -> None:
    ours = asyncio.run(workers.call(pid))
    reader, writer = os.pipe()
    fork = os.fork()
    if fork == 0:  # it must never come back into pytest
        try:
            theirs = asyncio.run(workers.call(pid)), asyncio.run(shared_workers().call(pid))
            os.write(writer, " ".join(map(str, theirs)).encode())
            workers.close()
        finally:
            os._exit(0)  # without closing the shared pool
    os.waitpid(fork, 0)
    theirs = [int(number) for number in os.read(reader, 100).split()]
    os.close(reader)
    os.close(writer)
    assert len({ours, *theirs}) == 3
    assert all(ends_within(5, process) for process in theirs)
    assert asyncio.run(workers.call(pid)) == ours


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], ["-m", "torch.distributed.run", "--nproc-per-node=2"]])
def test_ranks_have_workers_of_their_own(tmp_path: Path, launcher: list[str]) -> None:
    if launcher:
        pytest.importorskip("torch")
    program = tmp_path / "rank.py"
    program.write_text(
        "import asyncio, os, sys; sys.path.insert(0, os.getcwd())\n"
        "from gym_core.processes import shared_workers\n"
        "from tests.core.processes.test_workers import double, parent_pid\n"
        "async def main():\n"
        "    answers = await asyncio.gather(*[shared_workers().call(double, n) for n in range(100)])\n"
        "    assert answers == list(range(0, 200, 2))\n"
        "    zygote = await shared_workers().call(parent_pid)\n"
        f"    open(os.path.join({str(tmp_path)!r}, 'pid-' + os.environ['RANK']), 'w').write(str(zygote))\n"
        "asyncio.run(main())\n"
    )
    ranks = ["0", "1"] if not launcher else [""]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([sys.executable, *launcher, str(program)], cwd=ROOT, env={**env, "RANK": rank})
        for rank in ranks
    ]
    assert [process.wait(120) for process in running] == [0] * len(running)
    zygotes = [int((tmp_path / f"pid-{rank}").read_text()) for rank in (0, 1)]
    assert len({*zygotes}) == 2
    assert all(ends_within(5, zygote) for zygote in zygotes)


@pytest.mark.slow
def test_a_ray_actor_has_workers_that_end_with_it() -> None:
    ray = pytest.importorskip("ray")

    class Scorer:
        async def score(self, number: int) -> list[int]:
            # By names that any process can import: other packages are called "tests" too.
            return [await shared_workers().call("operator:mul", 2, number), await shared_workers().call("os:getpid")]

        async def hang(self) -> None:
            with contextlib.suppress(WorkerHungError):
                await shared_workers().call("re:match", "(a+)+$", "a" * 64 + "b", cpu_s=0.3)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(num_cpus=1, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": ROOT}})
    try:
        scorer = ray.remote(Scorer).remote()
        answers = ray.get([scorer.score.remote(number) for number in range(20)])
        ray.get(scorer.hang.remote())
        assert [answer for answer, _ in answers] == list(range(0, 40, 2))
        ray.kill(scorer)
        assert all(ends_within(10, process) for _, process in answers)
    finally:
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["loop", "backtrack"])
def test_no_child_outlives_a_killed_parent(tmp_path: Path, name: str) -> None:
    path = tmp_path / "pid"
    program = (
        "import asyncio; from gym_core.processes import Workers\n"
        "from tests.core.processes.test_workers import write_pid_and\n"
        f"asyncio.run(Workers(1).call(write_pid_and, {str(path)!r}, {name!r}, cpu_s=1.0))"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    assert holds_within(30, lambda: path.exists() and path.read_text(encoding="utf-8") != "")
    parent.kill()
    parent.wait()
    assert ends_within(20, int(path.read_text(encoding="utf-8")))


@pytest.mark.slow
def test_no_child_outlives_a_program_that_ends() -> None:
    program = (
        "import asyncio; from gym_core.processes import shared_workers\n"
        "from tests.core.processes.test_workers import pid\n"
        "print(asyncio.run(shared_workers().call(pid)))"
    )
    child = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, timeout=60)
    assert child.stderr == b""
    assert ends_within(5, int(child.stdout))


def test_a_process_shares_one_pool() -> None:
    assert shared_workers() is shared_workers()


async def test_a_zygote_that_dies_with_a_message_unread_costs_no_call() -> None:
    workers = Workers(size=1)
    zygote = await workers.call("os:getppid")
    os.kill(zygote, signal.SIGSTOP)
    calling = asyncio.ensure_future(workers.call("math:sqrt", 9.0))  # of another module, for which it is asked first
    await asyncio.sleep(0.3)
    os.kill(zygote, signal.SIGKILL)
    assert await calling == 3.0
    workers.close()


# Other systems.


LACKS_LINUX = """
import os, socket
pair = socket.socketpair
def socketpair(family=socket.AF_UNIX, type=socket.SOCK_STREAM, proto=0):
    if type == socket.SOCK_SEQPACKET:
        raise OSError(43, "Protocol not supported")
    return pair(family, type, proto)
socket.socketpair = socketpair
del os.pidfd_open, os.memfd_create
import gym_core.processes.kernel.usage as usage
from gym_core.processes.kernel import PsUsage
usage.Usage = PsUsage
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("ps"), reason="ps is not installed")
def test_without_what_linux_has_workers_are_plain_processes_with_limits() -> None:
    program = f"""{LACKS_LINUX}
import asyncio
from gym_core.errors import WorkerError, WorkerHungError, WorkerLostError
from gym_core.processes import Sandbox, Workers
from tests.core.processes.test_workers import die, double, fill_memory, loop, pid, raise_key_error, sleep

async def said(call):
    try:
        return await call
    except WorkerError as error:
        return type(error).__name__ + ": " + str(error)

async def main():
    workers = Workers(1, memory_bytes=1 << 30)
    print(await workers.call(double, 21), await workers.call(pid) == await workers.call(pid))
    print(await said(workers.call(raise_key_error)))
    print(await said(workers.call(die)))
    print(await said(workers.call(fill_memory)))
    print(await said(workers.call(loop, cpu_s=0.5)))
    print(await said(workers.call(sleep, 60, sleep_s=0.5)))
    print(await workers.call(double, 2))
    await asyncio.to_thread(workers.close)
    print(await said(Sandbox().run("pass")))

asyncio.run(main())
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    lines = ran.stdout.splitlines()
    assert lines[:2] == ["42 True", "WorkerError: KeyError: 'no such key'"], ran.stderr
    assert lines[2] == "WorkerLostError: the worker died, exit status 3"
    assert lines[3].startswith("WorkerHungError: ")
    assert "more than 0.5 CPU seconds" in lines[4]
    assert "slept for more than 0.5 seconds" in lines[5]
    assert lines[6] == "4"
    assert "this system lacks pidfd_open, memfd_create, SOCK_SEQPACKET" in lines[7]
    assert "Sandbox(isolation=Docker('python:3.12-slim'))" in lines[7]
    assert len(lines) == 8


def test_every_module_can_be_imported_without_what_windows_lacks() -> None:
    program = """
import asyncio, importlib, os, pkgutil, select, signal, socket, sys
loop = asyncio.new_event_loop()
import subprocess, concurrent.futures.thread
sys.modules["fcntl"] = sys.modules["resource"] = None
for module, names in {
    os: "O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_PATH WNOHANG fork geteuid killpg memfd_create mkfifo pidfd_open "
    "register_at_fork sched_getaffinity setpgid setsid wait4 waitid",
    select: "poll",
    signal: "ITIMER_REAL SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGUSR1 SIGXCPU SIGXFSZ pidfd_send_signal setitimer",
    socket: "AF_UNIX SOCK_SEQPACKET recv_fds send_fds",
}.items():
    for name in names.split():
        delattr(module, name)
import gym_core.processes as room
for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
    importlib.import_module(module.name)
os.name = "nt"
for call in (room.Workers(1).call("math:sqrt", 4.0), room.Sandbox(size=1).run("pass")):
    try:
        loop.run_until_complete(call)
    except Exception as error:
        print(type(error).__name__, error)
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "WorkerLostError" in ran.stdout, ran.stderr
    assert [line.count("on Windows, use WSL") for line in ran.stdout.splitlines()] == [1, 1]
