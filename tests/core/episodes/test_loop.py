import asyncio
import subprocess
import sys
import textwrap

import pytest

from gym_core import Environment, EpisodeError, ScriptedPolicy, Task, open_episode, user
from gym_core.episodes import run, submit

TASK = Task([user("Go.")])


class Echo(Environment):
    tasks = [TASK]

    def verify(self, rollout):
        return 1.0


def reward_of(env) -> float | None:
    return submit(open_episode(env, TASK).run(ScriptedPolicy(["hi"]))).result(timeout=10).reward


async def where():
    return asyncio.get_running_loop()


async def never(event):
    await event.wait()


def in_fresh_process(code: str) -> str:
    return subprocess.check_output([sys.executable, "-c", textwrap.dedent(code)], text=True, timeout=30).strip()


def test_threads_that_submit_first_at_the_same_time_share_one_loop():
    code = """
        import asyncio, threading
        from concurrent.futures import ThreadPoolExecutor
        from gym_core.episodes import run

        async def where():
            return id(asyncio.get_running_loop())

        barrier = threading.Barrier(16)

        def submitted(_):
            barrier.wait()
            return run(where())

        with ThreadPoolExecutor(16) as threads:
            print(len(set(threads.map(submitted, range(16)))))
        """
    assert in_fresh_process(code) == "1"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=["SystemExit", "KeyboardInterrupt"])
def test_the_loop_survives_a_background_task_that_exits(error, caplog):
    async def die():
        raise error

    async def start():
        tasks.append(asyncio.ensure_future(die()))

    tasks = []
    loop = run(where())
    run(start())
    assert run(where()) is loop
    assert reward_of(Echo) == 1.0
    assert tasks[0].exception() is error
    assert f"{type(error).__name__} has reached the event loop of the episodes" in caplog.text


def test_the_loop_survives_being_stopped(caplog):
    loop = run(where())
    loop.call_soon_threadsafe(loop.stop)
    assert run(where()) is loop
    assert "something has stopped the event loop" in caplog.text


def test_closing_the_loop_fails_its_waiters_and_the_next_caller_gets_a_new_loop(monkeypatch):
    loop = run(where())
    waiting = submit(never(asyncio.Event()))
    monkeypatch.setattr(loop, "run_forever", loop.close)  # a loop can only be closed while it does not run
    loop.call_soon_threadsafe(loop.stop)
    with pytest.raises(EpisodeError, match="something has closed the event loop of the episodes"):
        waiting.result(timeout=10)
    assert run(where()) is not loop
    assert reward_of(Echo) == 1.0


def test_a_hook_that_would_wait_for_its_own_loop_is_refused():
    class Waits(Echo):
        def verify(self, rollout):
            return run(asyncio.sleep(0, 1.0))

    rollout = run(open_episode(Waits, TASK).run(ScriptedPolicy(["hi"])))
    assert rollout.error.message == "hooks and tools must await instead: waiting here would stop every episode"


def test_a_fork_gets_its_own_loop_even_while_others_submit():
    code = """
        import asyncio, os, threading, warnings
        from gym_core.episodes import run
        warnings.simplefilter("ignore")
        over = False

        def submit_for_ever():
            while not over:
                run(asyncio.sleep(0))

        threads = [threading.Thread(target=submit_for_ever) for _ in range(4)]
        for thread in threads:
            thread.start()
        statuses = []
        for _ in range(20):
            if not (child := os.fork()):
                os._exit(run(asyncio.sleep(0, 7)))
            statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        over = True
        for thread in threads:
            thread.join()
        print(statuses == [7] * 20, run(asyncio.sleep(0, "and here")))
        """
    assert in_fresh_process(code) == "True and here"
