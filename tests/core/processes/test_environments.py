"""Environments in child processes: they play as they do here, and what they do to their process costs only them."""

import asyncio
import gc
import logging
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gym_core import (
    Environment,
    EnvironmentSpecError,
    Score,
    ScriptedPolicy,
    Task,
    ToolError,
    assistant,
    collect,
    in_processes,
    load_environment,
    mix,
    open_episode,
    tool,
    tool_call,
    user,
    verify,
)
from gym_core.environments import members
from gym_core.episodes import needs, verify_groups
from gym_core.processes.environments import children, pool

ROOT = str(Path(__file__).parents[3])

# What lives in the children; they import this module.


class Shop(Environment):
    """Opens by itself, answers twice, grows a tool, and counts what was asked of it."""

    tasks = [Task([], answer=i, id=f"shop-{i}") for i in range(4)]
    tool_timeout_s = 20.0

    async def setup(self):
        self.max_turns = 5
        self.asked = []
        self.tools |= {"late": replace(self.tools["pid"], schema=renamed(self.tools["pid"].schema))}
        return [user("Shop?")]

    @tool
    def pid(self) -> int:
        """Say which process this is."""
        return os.getpid()

    @tool
    def buy(self, what: str, count: int = 1) -> dict[str, int]:
        """Buy something.

        Args:
            what: The thing.
            count: The number of them.
        """
        if count > 3:
            raise ToolError(f"there are 3 of {what!r}")
        self.asked.append(what)
        return {what: count}

    @tool
    async def leave(self) -> str:
        """Leave the shop."""
        self.done = True
        return "Bye."

    def respond(self, message):
        self.asked.append(message["content"])
        return [user("And?")] if len(self.asked) < 2 else None

    def verify(self, rollout):
        return Score(float(len(self.asked)), {"turns": rollout.turns, "answer": self.task.answer})


def renamed(schema):
    return {"type": "function", "function": schema["function"] | {"name": "late"}}


class Trouble(Environment):
    """Does in each hook what its task says; `path` is where it tells what it did."""

    tasks = [Task([user("?")], id="trouble")]

    def setup(self):
        self.do("setup")

    @tool
    def call(self, what: str) -> str:
        """Do something.

        Args:
            what: Python code.
        """
        return str(eval(what))

    @tool
    async def acall(self, what: str) -> str:
        """Do something, and await it.

        Args:
            what: Python code.
        """
        return str(await eval(what))

    def respond(self, message):
        self.do("respond")

    def verify(self, rollout):
        self.do("verify")
        return 1.0

    def close(self):
        self.do("close")

    def do(self, hook):
        if code := self.task.info.get(hook):
            exec(code)


class Hasty(Trouble):
    """Gives its tools little time."""

    tool_timeout_s = 0.2


class Brief(Trouble):
    """Has little time."""

    timeout_s = 0.5


class Plain(Environment):
    """One turn, nothing but a verifier."""

    tasks = [Task([user(f"{i}?")], answer=str(i), id=f"plain-{i}") for i in range(3)]

    def verify(self, rollout):
        return float(rollout.last_reply == self.task.answer)


class Ranked(Plain):
    """Judges groups, and says where."""

    @classmethod
    def verify_group(cls, rollouts):
        return [Score(1.0, {"pid": os.getpid()}) for _ in rollouts]


class Unmade(Plain):
    """Can't be made in a child."""

    def __init__(self, task):
        super().__init__(task)
        if os.getpid() != task.answer:
            raise OSError("no browser here")


class Unpicklable:
    def __reduce__(self):
        raise TypeError("a connection can't be pickled")


class Odd(Plain):
    """Gives what no other process can have."""

    def verify(self, rollout):
        score = Score(1.0)
        score.components["lock"] = threading.Lock()
        return score


trouble = in_processes(Trouble, count=2)
crowd = in_processes(Trouble, count=1, episodes=2)
shop = in_processes(Shop, count=2)


def calls(*codes, name="call"):
    wanted = [assistant(tool_calls=[tool_call(name, f'{{"what": "{code}"}}')]) for code in codes]
    return [*wanted, "done"]


async def play(env, replies=("done",), **info):
    task = Task([user("?")], info=info, id="trouble")
    return await open_episode(env, task).run(ScriptedPolicy(list(replies)))


def contents(rollout):
    return [message["content"] for message in rollout.output if message["role"] == "tool"]


async def child_pid(env=trouble):
    return int(contents(await play(env, calls("os.getpid()")))[0])


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def eventually(condition, timeout_s=10.0):
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "it did not come about"
        await asyncio.sleep(0.01)


# As here


@pytest.mark.parametrize(
    "replies",
    [
        ["a", "b", "c"],
        [assistant(tool_calls=[tool_call("buy", '{"what": "tea"}'), tool_call("buy", '{"what": 1}')]), "a"],
        [
            assistant(tool_calls=[tool_call("buy", '{"what": "tea", "count": 9}')]),
            assistant(tool_calls=[tool_call("x")]),
        ],
        [assistant(tool_calls=[tool_call("leave"), tool_call("buy", '{"what": "tea"}')])],
        [assistant(tool_calls=[tool_call("buy", "{")])] * 9,
    ],
)
async def test_an_environment_plays_in_a_child_as_it_does_here(replies):
    there, here = [await open_episode(env, Shop.tasks[1]).run(ScriptedPolicy(replies)) for env in (shop, Shop)]
    assert replace(there, seconds=0) == replace(here, seconds=0)
    assert there.reward is not None


async def test_its_hooks_and_tools_run_in_another_process():
    rollout = await open_episode(shop, Shop.tasks[0]).run(
        ScriptedPolicy([assistant(tool_calls=[tool_call("pid"), tool_call("late")]), "a", "b"])
    )
    first, second = contents(rollout)
    assert first == second != str(os.getpid())


@pytest.mark.parametrize("kind", [Shop, Plain, Ranked])
def test_what_is_known_of_an_environment_is_known_of_its_proxy(kind):
    env, task = in_processes(kind), kind.tasks[0]
    assert needs(env) == needs(kind)
    assert needs(env(task)) == needs(kind(task))
    assert [tool.schema for tool in env(task).tools.values()] == [tool.schema for tool in kind(task).tools.values()]
    for name in ("name", "hooks", "max_turns", "tool_timeout_s", "timeout_s"):
        assert getattr(env(task), name) == getattr(kind(task), name)


async def test_a_conversation_is_replayed_in_a_child():
    played = await open_episode(Shop, Shop.tasks[2]).run(ScriptedPolicy(["a", "b"]))
    assert (await verify(shop(Shop.tasks[2]), played.output)).reward == played.reward == 2.0


async def test_groups_are_judged_in_a_child():
    env = in_processes(Ranked, 1)
    rollouts = [r async for r in collect(env, ScriptedPolicy(["0"]), tasks=Ranked.tasks[:1], samples=3)]
    (pid,) = {rollout.components["pid"] for rollout in rollouts}
    assert (len(rollouts), {rollout.reward for rollout in rollouts}) == (3, {1.0})
    assert pid != os.getpid()
    judged = await verify_groups(env, [replace(rollout, reward=0.0) for rollout in rollouts])
    assert {rollout.components["pid"] for rollout in judged} == {pid}


async def test_a_mix_keeps_its_members_which_share_the_children():
    env = in_processes(mix({Ranked: 1.0, Plain: 2.0}, seed=3), 1)
    assert list(env.tasks) == list(mix({Ranked: 1.0, Plain: 2.0}, seed=3).tasks)
    assert list(members(env)) == ["Ranked", "Plain"]
    for member in members(env).values():
        rollout = await open_episode(member, next(iter(member.tasks))).run(ScriptedPolicy(["0"]))
        assert rollout.reward == 1.0
    rollouts = [rollout async for rollout in collect(env, ScriptedPolicy(["0"]))]
    assert all(rollout.error is None for rollout in rollouts)
    assert len({home.pool for home in (member.home for member in members(env).values())}) == 1


def test_it_is_found_by_name():
    assert load_environment(f"{__name__}:shop") is shop
    assert (shop.name, shop.tasks) == (Shop.name, Shop.tasks)


# What blocks


async def test_blocking_tools_hold_up_nobody_else():
    env = in_processes(Trouble, 4)
    nap = calls("__import__('time').sleep(0.4)")
    await asyncio.gather(*(play(env) for _ in range(4)))
    started_s, ticks = time.monotonic(), 0
    playing = asyncio.gather(*(play(env, nap) for _ in range(4)))
    while not playing.done():
        await asyncio.sleep(0.01)
        ticks += 1
    assert time.monotonic() - started_s < 1.2
    assert ticks > 10
    assert [rollout.reward for rollout in playing.result()] == [1.0] * 4


async def test_sync_hooks_run_in_the_main_thread_outside_of_any_event_loop():
    code = "(threading.current_thread() is threading.main_thread(), asyncio._get_running_loop())"
    assert contents(await play(trouble, calls(code))) == ["(True, None)"]


async def test_sync_hooks_of_an_episode_share_a_thread_where_a_child_holds_many():
    code = "threading.get_ident()"
    rollouts = await asyncio.gather(*(play(crowd, calls(code, "time.sleep(0.3)", code)) for _ in range(2)))
    (first, _, again), (second, _, also) = map(contents, rollouts)
    assert first == again != second == also


async def test_tasks_that_an_async_hook_leaves_run_on_between_hooks():
    start = (
        "asyncio.sleep(0, setattr(self, 'ticks', []) or setattr(self, 'ticking', asyncio.ensure_future(tick(self))))"
    )
    episode = open_episode(trouble, Trouble.tasks[0])
    await episode.open()
    await episode.call(tool_call("acall", f'{{"what": "{start}"}}'))
    await asyncio.sleep(0.2)
    ticks = await episode.call(tool_call("call", '{"what": "len(self.ticks)"}'))
    await episode.close()
    assert int(ticks["content"]) > 5


async def tick(environment):
    while True:
        await asyncio.sleep(0.01)
        environment.ticks.append(1)


# Limits


async def test_an_async_tool_past_its_time_is_cancelled_and_the_episode_goes_on():
    env = in_processes(Hasty, 1)
    pid = await child_pid(env)
    slow = assistant(tool_calls=[tool_call("acall", '{"what": "asyncio.sleep(9)"}')])
    rollout = await play(env, [slow, *calls("os.getpid()")])
    assert contents(rollout) == ['{"error": "the tool took longer than 0.2 seconds and was given up"}', str(pid)]
    assert rollout.reward == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["call", "acall"])
async def test_a_tool_past_its_time_that_does_not_stop_ends_with_its_child(name):
    env = in_processes(Hasty, 1)
    pid = await child_pid(env)
    rollout = await play(env, calls("time.sleep(60)", name=name))
    sentence = f"the tool {name!r} took longer than 0.2 seconds and did not stop, so its process was given up"
    assert (rollout.reward, rollout.error.kind, rollout.error.message) == (None, "tool", sentence)
    assert rollout.seconds < 5
    await eventually(lambda: not is_alive(pid))
    assert await child_pid(env) != pid


@pytest.mark.slow
@pytest.mark.parametrize("hook", ["setup", "respond", "verify"])
async def test_a_hook_past_the_time_of_its_episode_ends_with_its_child(hook):
    env = in_processes(Brief, 1)
    await play(env)
    rollout = await play(env, **{hook: "time.sleep(60)"})
    sentence = "the episode took longer than its 0.5 seconds"
    assert (rollout.reward, rollout.error.kind, rollout.error.message) == (None, "timeout", sentence)
    assert rollout.seconds < 5
    assert (await play(env)).reward == 1.0


@pytest.mark.slow
async def test_a_child_that_is_given_up_ends_with_the_last_of_its_other_episodes():
    pid = await child_pid(crowd)
    other = open_episode(crowd, Trouble.tasks[0])
    await other.open()
    stuck = asyncio.ensure_future(play(crowd, calls("time.sleep(60)")))
    await asyncio.sleep(0.3)
    stuck.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stuck
    assert await child_pid(crowd) != pid  # a new one is there at once
    assert int((await other.call(tool_call("call", '{"what": "os.getpid()"}')))["content"]) == pid
    assert (await other.finish()).reward == 1.0
    await eventually(lambda: not is_alive(pid))


@pytest.mark.slow
async def test_a_hook_that_ends_after_it_was_given_up_ends_no_other_episode():
    other, stuck_episode = (open_episode(crowd, Trouble.tasks[0]) for _ in range(2))
    await other.open()
    await stuck_episode.open()  # in the last place that is free, whose thread is the main thread
    stuck = asyncio.ensure_future(stuck_episode.call(tool_call("call", '{"what": "time.sleep(2)"}')))
    await asyncio.sleep(0.3)
    stuck.cancel()
    await asyncio.wait({stuck})
    await asyncio.sleep(1.5)  # the hook has ended, and nobody takes its answer
    assert (await other.finish()).reward == 1.0


@pytest.mark.slow
async def test_a_child_that_is_given_up_ends_after_a_grace(monkeypatch):
    monkeypatch.setattr(children, "GRACE_S", 0.5)
    pid = await child_pid(crowd)
    other = open_episode(crowd, Trouble.tasks[0])
    await other.open()
    stuck = asyncio.ensure_future(play(crowd, calls("time.sleep(60)")))
    await asyncio.sleep(0.3)
    stuck.cancel()
    await asyncio.wait({stuck})
    await eventually(lambda: not is_alive(pid))
    assert "killed by signal 9" in (await other.finish()).error.message
    assert (await play(crowd)).reward == 1.0


async def test_a_cancelled_episode_is_closed_and_its_child_plays_on(tmp_path):
    pid, note = await child_pid(in_one := in_processes(Trouble, 1)), tmp_path / "closed"
    slow = assistant(tool_calls=[tool_call("acall", '{"what": "asyncio.sleep(60)"}')])
    task = Task([user("?")], info={"close": f"open({str(note)!r}, 'w')"})
    playing = asyncio.ensure_future(open_episode(in_one, task).run(ScriptedPolicy([slow])))
    await asyncio.sleep(0.2)
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert note.exists()
    assert await child_pid(in_one) == pid


# What breaks


@pytest.mark.parametrize("hook", ["setup", "respond", "verify", "close"])
async def test_an_exception_breaks_its_episode_as_it_does_here(hook):
    there, here = [await play(env, **{hook: "raise KeyError('shelf')"}) for env in (trouble, Trouble)]
    assert there.error == here.error
    assert there.error.message == "KeyError: 'shelf'"
    assert there.reward == here.reward


async def test_the_log_has_the_traceback_of_the_child(caplog):
    caplog.set_level(logging.DEBUG)
    await play(trouble, verify="{}['shelf']")
    assert 'File "<string>", line 1, in <module>' in caplog.text
    assert "in verify" in caplog.text


@pytest.mark.parametrize("name", ["call", "acall"])
async def test_an_exit_breaks_its_episode_only(name):
    pid = await child_pid(env := in_processes(Trouble, 1))
    rollout = await play(env, calls("sys.exit(3)" if name == "call" else "leave()", name=name))
    assert rollout.error.message == "SystemExit: 3"
    rollout = await play(env, calls("asyncio.sleep(0.1, asyncio.ensure_future(leave()))", "os.getpid()", name="acall"))
    assert (await play(env, calls("asyncio.sleep(0)", name="acall"))).reward == 1.0
    assert await child_pid(env) == pid


async def leave():
    sys.exit(3)


@pytest.mark.parametrize("hook", ["setup", "respond", "verify"])
@pytest.mark.parametrize(
    ("code", "fate"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by signal 9, as the kernel does when no memory is left"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by signal 11"),
        ("os._exit(3)", "ended with exit status 3"),
    ],
)
async def test_a_child_that_dies_costs_its_own_episode_only(hook, code, fate):
    other = open_episode(trouble, Trouble.tasks[0])
    await other.open()
    rollout = await play(trouble, **{hook: code})
    assert (rollout.reward, rollout.error.kind) == (None, hook)
    assert rollout.error.message == f"the process of the environment {fate}"
    assert (await play(trouble)).reward == 1.0
    assert (await other.finish()).reward == 1.0


async def test_a_child_that_dies_in_close_costs_no_reward():
    rollout = await play(trouble, close="os._exit(0)")
    assert (rollout.reward, rollout.error.kind) == (1.0, "close")
    assert (await play(trouble)).reward == 1.0


async def test_a_child_that_dies_between_hooks_breaks_its_episode():
    episode = open_episode(trouble, Trouble.tasks[0])
    await episode.open()
    os.kill(int((await episode.call(tool_call("call", '{"what": "os.getpid()"}')))["content"]), signal.SIGKILL)
    assert "killed by signal 9" in (await episode.finish()).error.message


async def test_a_child_that_dies_while_nothing_lives_in_it_costs_nothing():
    env = in_processes(Trouble, 1)
    for wait_s in (0, 0, 0, 0.001, 0.01, 0.1):
        os.kill(await child_pid(env), signal.SIGKILL)
        await asyncio.sleep(wait_s)
    assert (await play(env)).reward == 1.0


async def test_a_zygote_that_dies_is_replaced():
    env = in_processes(Trouble, 1)
    pid = int(contents(await play(env, calls("os.getppid()")))[0])
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not is_alive(pid))
    assert (await play(env)).reward == 1.0


@pytest.mark.slow
async def test_a_child_that_closes_its_connection_is_replaced():
    rollout = await play(trouble, calls("os.closerange(3, 1000)"))
    assert rollout.reward is None
    assert (await play(trouble)).reward == 1.0


async def test_a_hook_that_forks_is_answered_once():
    assert contents(await play(trouble, calls("os.fork() and 1", "2"))) == ["1", "2"]


async def test_what_an_environment_prints_harms_nothing(capfd):
    code = "[print('to be seen', flush=True), os.write(1, bytes(9)), os.system('echo by a shell >&2'), 1][-1]"
    assert contents(await play(in_processes(Trouble, 1), calls(code))) == ["1"]
    seen = capfd.readouterr()
    assert "to be seen" in seen.out
    assert "by a shell" in seen.err


async def test_a_constructor_that_raises_breaks_the_episode_in_setup():
    env = in_processes(Unmade, 1)
    for answer in (os.getpid(), 0):
        rollout = await open_episode(env, Task([user("?")], answer=answer)).run(ScriptedPolicy(["?"]))
        assert (rollout.error.kind, rollout.error.message) == ("setup", "OSError: no browser here")


async def test_what_can_not_be_pickled_breaks_the_episode():
    rollout = await open_episode(trouble, Task([user("?")], answer=Unpicklable(), id="t")).run(ScriptedPolicy(["?"]))
    sentence = "the arguments of 'setup' can't be pickled for another process: TypeError: a connection can't be pickled"
    assert (rollout.reward, rollout.error.message) == (None, sentence)
    rollout = await open_episode(in_processes(Odd, 1), Odd.tasks[0]).run(ScriptedPolicy(["?"]))
    assert rollout.error.message == "TypeError: cannot pickle '_thread.lock' object"


# Places


async def test_no_place_is_lost_when_episodes_are_cancelled():
    env, rng = in_processes(Trouble, 2, episodes=2), random.Random(0)
    codes = [("call", "time.sleep(0.01)"), ("acall", "asyncio.sleep(0.05)"), ("acall", "asyncio.sleep(0)")]
    turns = [calls(code, "1", name=name) for name, code in codes]
    playing = [asyncio.ensure_future(play(env, rng.choice(turns[:1] + turns[1:]))) for _ in range(200)]
    await play(env)
    for episode in rng.sample(playing, 80):
        episode.cancel()
    ended = await asyncio.gather(*playing, return_exceptions=True)
    assert {type(one) for one in ended} == {asyncio.CancelledError, type(await play(env))}
    opened = [open_episode(env, Trouble.tasks[0]) for _ in range(4)]
    await asyncio.wait_for(asyncio.gather(*(episode.open() for episode in opened)), 20)
    assert [(await episode.finish()).reward for episode in opened] == [1.0] * 4


async def test_an_episode_that_is_never_closed_leaves_its_place_to_others(monkeypatch):
    monkeypatch.setattr(pool, "_TICK_S", 0.05)
    env = in_processes(Trouble, 1)
    episode = open_episode(env, Trouble.tasks[0])
    await episode.open()
    waiting = asyncio.ensure_future(play(env))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    del episode
    gc.collect()
    assert (await waiting).reward == 1.0


async def test_episodes_that_wait_for_each_other_are_told(monkeypatch, caplog):
    monkeypatch.setattr(pool, "_TICK_S", 0.05)
    monkeypatch.setattr(pool, "_WARN_S", 0.1)
    monkeypatch.setattr(pool, "STUCK_S", 0.4)
    env = in_processes(Trouble, 1)
    batch = [open_episode(env, Trouble.tasks[0]) for _ in range(3)]
    for episode in batch:  # as a trainer does that opens all before it plays any
        await episode.open()
    errors = [(await episode.finish()).error for episode in batch]
    assert errors[0] is None
    assert "Give in_processes a count or episodes for all episodes" in errors[1].message
    assert errors[1].kind == errors[2].kind == "setup"
    assert len([record for record in caplog.records if "places" in record.message]) == 1


async def test_children_end_with_their_environment():
    env = in_processes(Trouble, 1)
    pid = await child_pid(env)
    del env
    gc.collect()
    await eventually(lambda: not is_alive(pid))


# Other processes and loops


def test_children_serve_one_event_loop_after_another():
    pids = {asyncio.run(child_pid(env)) for env in [in_processes(Trouble, 1)] * 3}
    assert len(pids) == 1


async def test_children_serve_loops_in_several_threads():
    env, found = in_processes(Trouble, 2), []
    threads = [threading.Thread(target=lambda: found.append(asyncio.run(child_pid(env)))) for _ in range(6)]
    for thread in threads:
        thread.start()
    await asyncio.to_thread(lambda: [thread.join() for thread in threads])
    assert len(found) == 6


async def test_copies_in_a_process_share_its_children():
    env = in_processes(Trouble, 1)
    pid = await child_pid(env)
    assert await child_pid(pickle.loads(pickle.dumps(env))) == pid


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_children_of_its_own():
    with asyncio.Runner() as runner:
        episode = open_episode(shop, Shop.tasks[0])
        runner.run(episode.open())
        ours, theirs = os.pipe()
        if (copy := os.fork()) == 0:
            os.write(theirs, asyncio.run(_told(episode)).encode())
            os._exit(0)
        os.close(theirs)
        with open(ours) as file:
            pid, error = file.read().split("|")
        os.waitpid(copy, 0)
        assert "the episode in it is lost" in error
        answer = runner.run(episode.call(tool_call("pid")))
        assert answer["content"] != pid
        assert runner.run(episode.finish()).reward == 0.0


async def _told(episode):
    replies = [assistant(tool_calls=[tool_call("pid")]), "a", "b"]
    rollout = await open_episode(shop, Shop.tasks[0]).run(ScriptedPolicy(replies))
    return f"{contents(rollout)[0]}|{(await episode.finish()).error.message}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_it_travels_to_processes_of_multiprocessing(method):
    env = in_processes(Trouble, 1)
    here = asyncio.run(child_pid(env))
    with multiprocessing.get_context(method).Pool(2) as processes:
        found = processes.map(_child_pid, [env] * 8, chunksize=1)
    assert here not in found
    assert asyncio.run(child_pid(env)) == here


def _child_pid(env):
    return asyncio.run(child_pid(env))


def run_script(path, code, *, timeout_s=60, **variables):
    path.write_text(textwrap.dedent(code))
    env = os.environ | {"PYTHONPATH": ROOT} | variables
    return subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=timeout_s, env=env)


SCRIPT = """
    import asyncio, os, sys
    from gym_core import *

    class Here(Environment):
        tasks = [Task([user("?")])]

        def verify(self, rollout):
            return Score(1.0, {"pid": os.getpid()})

    async def main():
        rollout = await open_episode(in_processes(Here, 1), Here.tasks[0]).run(ScriptedPolicy(["?"]))
        print(rollout.error.message if rollout.error else rollout.components["pid"] != os.getpid())
"""


@pytest.mark.slow
def test_an_environment_of_the_script_that_runs_is_found(tmp_path):
    ran = run_script(tmp_path / "script.py", SCRIPT + '\n    if __name__ == "__main__":\n        asyncio.run(main())')
    assert (ran.stdout, ran.stderr) == ("True\n", "")


@pytest.mark.slow
def test_a_script_that_plays_when_it_is_imported_is_told(tmp_path):
    ran = run_script(tmp_path / "script.py", SCRIPT + "\n    asyncio.run(main())")
    assert "put that under `if __name__ == '__main__':`" in ran.stdout.splitlines()[-1]


@pytest.mark.slow
def test_an_environment_of_a_notebook_is_refused():
    code = textwrap.dedent(SCRIPT) + "\nin_processes(Here)"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ROOT}
    )
    assert "environment 'Here' is defined where no other process can import it" in ran.stderr


@pytest.mark.slow
def test_no_child_outlives_a_parent_that_is_killed(tmp_path):
    code = f"""
        import asyncio, os, signal
        from {__name__} import child_pid, play, calls, crowd, trouble

        async def main():
            found = [str(await child_pid(env)) for env in (crowd, trouble)]
            stuck = asyncio.ensure_future(play(trouble, calls("time.sleep(600)")))
            started = asyncio.ensure_future(play(crowd, calls("subprocess.Popen(['sleep', '600']).pid")))
            await asyncio.sleep(0.5)
            print(*found, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
    """
    before = sleepers()
    ran = run_script(tmp_path / "script.py", code)
    assert (ran.returncode, ran.stderr) == (-signal.SIGKILL, "")
    pids = list(map(int, ran.stdout.split()))
    assert len(pids) == 2
    asyncio.run(eventually(lambda: not any(map(is_alive, pids)) and sleepers() == before))


LACKS_LINUX = """
    import os, socket
    pair = socket.socketpair
    def socketpair(family=socket.AF_UNIX, type=socket.SOCK_STREAM, proto=0):
        if type == socket.SOCK_SEQPACKET:
            raise OSError(43, "Protocol not supported")
        return pair(family, type, proto)
    socket.socketpair = socketpair
    del os.pidfd_open, os.memfd_create
"""


@pytest.mark.slow
def test_without_what_linux_has_children_are_plain_processes(tmp_path):
    code = f"""
    import asyncio, os, signal
    from {__name__} import child_pid, is_alive, play, calls, crowd, trouble

    async def main():
        pid = await child_pid(trouble)
        print((await play(trouble, verify="os.kill(os.getpid(), 11)")).error.message)
        print((await play(trouble, calls("time.sleep(0.1)"))).reward)
        print(await child_pid(crowd), await child_pid(trouble), flush=True)
        asyncio.ensure_future(play(trouble, calls("time.sleep(600)")))
        await asyncio.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(main())
    """
    ran = run_script(tmp_path / "script.py", LACKS_LINUX + code)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    died, played, pids = ran.stdout.splitlines()
    assert died == "the process of the environment was killed by signal 11"
    assert played == "1.0"
    asyncio.run(eventually(lambda: not any(map(is_alive, map(int, pids.split())))))


def sleepers():
    return subprocess.run(["pgrep", "-f", "sleep 600"], capture_output=True, text=True).stdout.split()


async def test_children_get_an_allow_list_of_environment_variables(monkeypatch):
    monkeypatch.setenv("A_SECRET", "of the trainer")
    monkeypatch.setenv("SHOP_KEY", "open")
    code = "[os.environ.get(name) for name in ('A_SECRET', 'SHOP_KEY')]"
    assert contents(await play(in_processes(Trouble, 1), calls(code))) == ["[None, None]"]
    assert contents(await play(in_processes(Trouble, 1, variables=["SHOP_KEY"]), calls(code))) == ["[None, 'open']"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((Plain, 0), "'count' must be a positive whole number, not 0"),
        ((Plain, True), "'count' must be a positive whole number, not True"),
        ((trouble,), "environment 'Trouble' lives in child processes already"),
        ((type("Local", (Plain,), {}),), "environment 'Local' can't be pickled for child processes"),
        (("shop",), "expected an environment or a list of them, not 'shop'"),
    ],
)
def test_what_no_child_could_have_is_refused(arguments, sentence):
    with pytest.raises(EnvironmentSpecError, match=sentence):
        in_processes(*arguments)
