"""Workers: limits of a child process, and that none is ever left behind."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gym_core.errors import WorkerError, WorkerHungError, WorkerLostError
from gym_core.workers import Workers, shared_workers

# What the children run; they import this module.


def double(number: int) -> int:
    return 2 * number


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


def poison(number: int) -> int:
    if number % 16 == 0:
        loop()
    return number


def write_pid_and(path: str, name: str) -> None:
    Path(path).write_text(str(os.getpid()), encoding="utf-8")
    globals()[name]()


# The tests.


@pytest.fixture
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


async def test_what_json_cannot_hold_is_an_error(workers: Workers) -> None:
    with pytest.raises(WorkerError, match="TypeError: Object of type set"):
        await workers.call(set)


async def test_a_function_that_cannot_be_imported_is_lost(workers: Workers) -> None:
    with pytest.raises(WorkerLostError, match="could not import"):
        await workers.call(lambda: 1)


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


async def test_a_child_killed_from_outside_is_lost(workers: Workers) -> None:
    child = await workers.call(pid)
    call = asyncio.ensure_future(workers.call(sleep, 60))
    await asyncio.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    with pytest.raises(WorkerLostError, match="signal 9"):
        await call


async def test_a_child_killed_while_idle_is_replaced(workers: Workers) -> None:
    child = await workers.call(pid)
    os.kill(child, signal.SIGKILL)
    await asyncio.sleep(0.3)
    assert await workers.call(double, 2) == 4


@pytest.mark.slow
async def test_sleep_is_not_cpu_time(workers: Workers) -> None:
    assert await workers.call(sleep, 0.4, cpu_s=0.1) == "slept"
    with pytest.raises(WorkerLostError, match=r"longer than 0\.2 wall seconds"):
        await workers.call(sleep, 60, cpu_s=0.1, wall_s=0.2)


async def test_prints_do_not_get_into_the_answers(workers: Workers) -> None:
    assert await workers.call(print_everywhere) == "printed"
    assert await workers.call(double, 2) == 4


async def test_a_function_that_forks_answers_once(workers: Workers) -> None:
    assert await workers.call(fork) == "one answer"
    await asyncio.sleep(0.1)
    assert await workers.call(double, 2) == 4


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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["loop", "backtrack"])
def test_no_child_outlives_a_killed_parent(tmp_path: Path, name: str) -> None:
    path = tmp_path / "pid"
    program = (
        "import asyncio; from gym_core.workers import Workers; from tests.core.test_workers import write_pid_and\n"
        f"asyncio.run(Workers(1).call(write_pid_and, {str(path)!r}, {name!r}, cpu_s=1.0))"
    )
    root = str(Path(__file__).parents[2])
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=root)
    assert holds_within(30, lambda: path.exists() and path.read_text(encoding="utf-8") != "")
    parent.kill()
    parent.wait()
    assert ends_within(20, int(path.read_text(encoding="utf-8")))


@pytest.mark.slow
def test_no_child_outlives_a_program_that_ends() -> None:
    program = (
        "import asyncio; from gym_core.workers import shared_workers; from tests.core.test_workers import pid\n"
        "print(asyncio.run(shared_workers().call(pid)))"
    )
    root = str(Path(__file__).parents[2])
    child = subprocess.run([sys.executable, "-c", program], cwd=root, check=True, capture_output=True, timeout=60)
    assert child.stderr == b""
    assert ends_within(5, int(child.stdout))


def test_a_process_shares_one_pool() -> None:
    assert shared_workers() is shared_workers()
