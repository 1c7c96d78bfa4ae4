import asyncio
import json
import math
import time
from contextlib import suppress
from dataclasses import dataclass

import pytest

from gym_core import (
    Completion,
    Environment,
    Episode,
    EpisodeError,
    OutOfTokens,
    PolicyError,
    RolloutError,
    Score,
    ScriptedPolicy,
    Task,
    ToolError,
    assistant,
    open_episode,
    rollout,
    system,
    tool,
    tool_call,
    user,
    verify,
)
from gym_core.episodes import hooks

TASK = Task([user("Go.")], answer="yes")


class Recorder(Environment):
    """Writes down which hooks were called."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.log: list[str] = []

    def setup(self):
        self.log.append("setup")

    def respond(self, message):
        self.log.append("respond")

    @tool
    def echo(self, text: str) -> str:
        """Say it again.

        Args:
            text: What.
        """
        self.log.append(f"echo {text}")
        return text

    @tool
    def refuse(self) -> str:
        """Refuse."""
        raise ToolError("ask again later")

    @tool
    def crash(self) -> str:
        """Crash."""
        raise KeyError("x")

    @tool
    def stop(self) -> str:
        """End it."""
        self.done = True
        return "bye"

    @tool
    async def hang(self) -> str:
        """Take for ever."""
        await asyncio.sleep(60)
        return ""

    def verify(self, rollout):
        self.log.append("verify")
        return rollout.last_reply == self.task.answer

    def close(self):
        self.log.append("close")


def calls(*named: str | tuple[str, str]):
    """An assistant message with calls of tools, by name or by name and arguments."""
    pairs = [(each, "{}") if isinstance(each, str) else each for each in named]
    return assistant(tool_calls=[tool_call(name, text, id=f"c{i}") for i, (name, text) in enumerate(pairs)])


async def play(env: Environment | type[Environment], *replies):
    environment = env if isinstance(env, Environment) else env(TASK)
    return await rollout(environment, ScriptedPolicy(replies))


def answers(played) -> list[str]:
    return [message["content"] for message in played.output if message["role"] == "tool"]


# from setup to close


async def test_an_episode_opens_steps_verifies_once_and_closes_once():
    environment = Recorder(TASK)
    played = await play(environment, calls(("echo", '{"text": "a"}')), "yes")
    assert environment.log == ["setup", "echo a", "respond", "verify", "close"]
    assert played.reward == 1.0
    assert (played.turns, played.tool_calls, played.tool_errors) == (2, 1, 0)
    assert (played.error, played.stop_reason, played.task) == (None, "done", TASK)
    assert [schema["function"]["name"] for schema in played.tools] == ["echo", "refuse", "crash", "stop", "hang"]
    assert 0 <= played.seconds < 1
    assert played.output == [
        user("Go."),
        calls(("echo", '{"text": "a"}')),
        {"role": "tool", "tool_call_id": "c0", "name": "echo", "content": "a"},
        assistant("yes"),
    ]


async def test_finishing_and_closing_again_changes_nothing():
    environment = Recorder(TASK)
    async with Episode(environment) as opened:
        await opened.step(Completion(assistant("yes")))
        first = await opened.finish()
        assert await opened.finish([user("other")]) is first
        await opened.close()
    assert opened.rollout is first
    assert environment.log.count("verify") == environment.log.count("close") == 1


async def test_hooks_and_tools_may_all_be_async():
    class Waiting(Environment):
        async def setup(self):
            await asyncio.sleep(0)
            return [system("Be nice."), user(f"{self.task.answer}?")]

        @tool
        async def look(self) -> str:
            """Look."""
            await asyncio.sleep(0)
            return "seen"

        async def respond(self, message):
            await asyncio.sleep(0)
            return user("And?") if message["content"] == "one" else None

        async def verify(self, rollout):
            await asyncio.sleep(0)
            return Score(0.5, {"turns": rollout.turns})

        async def close(self):
            await asyncio.sleep(0)
            self.closed = True

    environment = Waiting(TASK)
    played = await play(environment, calls("look"), "one", "two")
    assert played.raise_for_error().reward == 0.5
    assert played.components == {"turns": 3.0}
    assert [message["content"] for message in played.output] == [
        "Be nice.",
        "yes?",
        None,
        "seen",
        "one",
        "And?",
        "two",
    ]
    assert environment.closed


async def test_the_policy_sees_the_conversation_and_the_tools():
    seen = []

    async def policy(messages, tools):
        seen.append(([message["content"] for message in messages], [each["function"]["name"] for each in tools]))
        return Completion(assistant("ok"))

    await rollout(Recorder(TASK), policy)
    assert seen == [(["Go."], ["echo", "refuse", "crash", "stop", "hang"])]


async def test_stepping_after_the_end_raises():
    async with Episode(Recorder(TASK)) as opened:
        await opened.step(Completion(assistant("yes")))
        with pytest.raises(EpisodeError, match=r"the episode is over \(done\), and takes no more messages"):
            await opened.step(Completion(assistant("more")))


async def test_there_is_no_rollout_before_the_end():
    async with Episode(Recorder(TASK)) as opened:
        with pytest.raises(EpisodeError, match="the episode has not finished yet"):
            _ = opened.rollout
    assert opened.rollout.reward == 0.0


async def test_an_error_of_the_caller_closes_without_a_verdict():
    environment = Recorder(TASK)
    with pytest.raises(ZeroDivisionError):
        async with Episode(environment):
            _ = 1 / 0
    assert environment.log == ["setup", "close"]


async def test_concurrent_episodes_share_no_state():
    class Counter(Environment):
        def setup(self):
            self.counted = []

        @tool
        async def count(self, number: int) -> list[int]:
            """Count.

            Args:
                number: A number.
            """
            await asyncio.sleep(0.001)
            self.counted.append(number)
            return self.counted

        def verify(self, rollout):
            return len(self.counted)

    def turns(number: int):
        return [calls(*[("count", f'{{"number": {number}}}')] * 2)] * 3

    played = await asyncio.gather(*(play(Counter(TASK), *turns(number)) for number in range(20)))
    assert [each.reward for each in played] == [6.0] * 20
    assert [answers(each)[-1] for each in played] == [str([number] * 6) for number in range(20)]


# the opening


async def test_setup_may_give_the_whole_opening_conversation():
    class Opening(Recorder):
        def setup(self):
            return [system("s"), user("u")]

    assert (await play(Opening)).output == [system("s"), user("u"), assistant("")]


async def test_an_episode_does_not_write_into_its_task():
    task = Task([user("Go.")])
    await play(Recorder(task), "one")
    assert task.prompt == [user("Go.")]


async def test_what_an_episode_writes_into_its_task_is_its_own():
    class Scribbles(Recorder):
        def __init__(self, task):
            super().__init__(task)
            self.left = task.info["stock"]

        def respond(self, message):
            self.left.clear()

        def setup(self):
            self.task.prompt[0]["content"] += " Now."
            self.task.info["stock"].pop()
            self.task.answer.append("more")

    task = Task([user("Go.")], answer=["yes"], info={"stock": [1, 2]})
    for _ in range(2):
        played = await open_episode(Scribbles, task).run(ScriptedPolicy(["yes"]))
        assert (played.error, played.output[0]["content"]) == (None, "Go. Now.")
        assert (played.task.answer, played.task.info) == (["yes", "more"], {"stock": [1]})
    assert task == Task([user("Go.")], answer=["yes"], info={"stock": [1, 2]})


async def test_an_episode_without_any_opening_is_broken():
    played = await play(Recorder(Task([])))
    assert played.reward is None
    assert played.error == RolloutError("setup", "the task has no prompt and setup returned no messages")


@pytest.mark.parametrize("returned", ["Hello", 3, [user("a"), "b"], [{"role": "user"}]], ids=repr)
async def test_an_opening_without_messages_breaks_the_episode(returned):
    class Wrong(Recorder):
        def setup(self):
            return returned

    wrong = returned[-1] if isinstance(returned, list) else returned
    played = await play(Wrong)
    assert played.reward is None
    assert played.error == RolloutError("setup", f"setup must return messages like user('...'), not {wrong!r}")


async def test_a_prompt_that_is_no_list_of_messages_is_not_blamed_on_setup():
    played = await play(Recorder(Task("What is 2+2?")))
    assert played.reward is None
    assert played.error == RolloutError(
        "setup", "the task's prompt must consist of messages like user('...'), not 'What is 2+2?'"
    )


async def test_done_in_setup_ends_the_episode_before_the_first_turn():
    class Over(Recorder):
        def setup(self):
            self.done = True

    environment = Over(TASK)
    played = await play(environment, "never played")
    assert (played.reward, played.turns, played.stop_reason) == (0.0, 0, "done")
    assert environment.log == ["verify", "close"]


# tools


async def test_every_call_is_answered_in_order_with_advice():
    class Impatient(Recorder):
        tool_timeout_s = 0.01

    asked = calls(
        ("echo", '{"text": "a"}'),
        "missing",
        ("echo", "{"),
        ("echo", '{"txt": "a"}'),
        "refuse",
        "hang",
        ("echo", '{"text": "b"}'),
    )
    played = await play(Impatient(TASK), asked, "yes")
    assert played.reward == 1.0
    assert (played.tool_calls, played.tool_errors) == (7, 5)
    replies = [message for message in played.output if message["role"] == "tool"]
    assert [reply["tool_call_id"] for reply in replies] == [f"c{i}" for i in range(7)]
    assert [reply["name"] for reply in replies] == [call["function"]["name"] for call in asked["tool_calls"]]
    assert answers(played)[0] == "a"
    assert [json.loads(content)["error"] for content in answers(played)[1:6]] == [
        "unknown tool 'missing'; the tools are echo, refuse, crash, stop, hang",
        "invalid arguments for 'echo': the arguments are not valid JSON "
        "(EOF while parsing an object at line 1 column 1)",
        "invalid arguments for 'echo': 'text' is missing; there is no argument 'txt'; the arguments are text",
        "ask again later",
        "the tool took longer than 0.01 seconds and was given up",
    ]
    assert answers(played)[6] == "b"


async def test_an_environment_without_tools_says_so():
    class Bare(Environment):
        def verify(self, rollout):
            return 1.0

    played = await play(Bare, calls("look"), "ok")
    assert answers(played) == ['{"error": "unknown tool \'look\'; the tools are none"}']
    assert played.reward == 1.0


async def test_any_other_exception_of_a_tool_breaks_the_episode():
    environment = Recorder(TASK)
    played = await play(environment, calls("crash", ("echo", '{"text": "a"}')), "yes")
    assert played.reward is None
    assert played.error == RolloutError("tool", "KeyError: 'x'")
    assert (played.stop_reason, played.turns) == ("error", 1)
    assert [json.loads(content)["error"] for content in answers(played)] == [
        "the tool broke, the episode is over",
        "the episode is over, tools can't be called any more",
    ]
    assert environment.log == ["setup", "close"]


async def test_a_timeout_inside_the_tool_breaks_the_episode():
    class Flaky(Recorder):
        @tool
        async def ask(self) -> str:
            """Ask."""
            raise TimeoutError("the database")

    assert (await play(Flaky, calls("ask"))).error == RolloutError("tool", "TimeoutError: the database")


async def test_done_set_by_a_tool_ends_the_episode_after_the_turn():
    environment = Recorder(TASK)
    played = await play(environment, calls("stop", ("echo", '{"text": "a"}')), "yes")
    assert (played.stop_reason, played.turns, played.reward) == ("done", 1, 0.0)
    assert answers(played) == ["bye", '{"error": "the episode is over, tools can\'t be called any more"}']
    assert environment.log == ["setup", "verify", "close"]


async def test_a_driver_that_owns_the_loop_calls_tools_and_hands_over_the_conversation():
    environment = Recorder(TASK)
    opened = Episode(environment)
    await opened.open()
    answer = await opened.call(tool_call("echo", '{"text": "a"}', id="x"))
    assert answer == {"role": "tool", "tool_call_id": "x", "name": "echo", "content": "a"}
    output = [user("Go."), calls(("echo", "{}")), answer, assistant("yes")]
    played = await opened.finish(output)
    assert (played.reward, played.turns, played.tool_calls, played.output) == (1.0, 2, 1, output)
    assert environment.log == ["setup", "echo a", "verify", "close"]


# responding


@pytest.mark.parametrize("reply", [user("more"), [user("more")], [user("more"), user("and more")]])
async def test_respond_may_give_one_message_or_several(reply):
    class Asking(Recorder):
        def respond(self, message):
            return reply if message["content"] == "one" else None

    played = await play(Asking, "one", "two")
    added = reply if isinstance(reply, list) else [reply]
    assert played.output == [user("Go."), assistant("one"), *added, assistant("two")]
    assert played.stop_reason == "done"


async def test_respond_may_say_a_last_word():
    class Polite(Recorder):
        def respond(self, message):
            self.done = True
            return user("Thanks.")

    played = await play(Polite, "yes", "never played")
    assert played.output[-1] == user("Thanks.")
    assert (played.reward, played.turns) == (1.0, 1)


async def test_a_response_that_is_not_a_message_breaks_the_episode():
    class Wrong(Recorder):
        def respond(self, message):
            return "more"

    played = await play(Wrong, "yes")
    assert played.reward is None
    assert played.error == RolloutError("respond", "respond must return messages like user('...'), not 'more'")


# verdicts


@dataclass(frozen=True)
class Explained(Score):
    reason: str = "close enough"


@pytest.mark.parametrize(
    ("verdict", "reward", "components"),
    [
        (0.25, 0.25, {}),
        (True, 1.0, {}),
        (-2, -2.0, {}),
        (Score(1, {"format": True}), 1.0, {"format": 1.0}),
        (Explained(1, {"format": True}), 1.0, {"format": 1.0}),
    ],
    ids=repr,
)
async def test_a_verdict_is_a_number_or_a_score(verdict, reward, components):
    class Judge(Recorder):
        def verify(self, rollout):
            return verdict

    played = await play(Judge)
    assert (played.reward, played.components, played.error) == (reward, components, None)
    assert type(played.reward) is float


@pytest.mark.parametrize("verdict", [math.nan, math.inf, None, "1.0", {}], ids=repr)
async def test_any_other_verdict_is_a_failure(verdict):
    class Judge(Recorder):
        def verify(self, rollout):
            return verdict

    played = await play(Judge)
    assert played.reward is None
    assert played.error == RolloutError("verify", f"'reward' of a score must be a finite number, not {verdict!r}")


async def test_verify_can_read_everything_that_happened():
    class Judge(Recorder):
        def verify(self, rollout):
            self.read = rollout
            return 1.0

    environment = Judge(TASK)
    played = await play(environment, calls("refuse"), "yes")
    assert environment.read.reward is None
    assert (environment.read.turns, environment.read.tool_errors, environment.read.stop_reason) == (2, 1, "done")
    assert environment.read.output == played.output


# failures are data


@pytest.mark.parametrize("kind", ["setup", "respond", "verify"])
@pytest.mark.parametrize("later", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("error", [ValueError("broken"), ToolError("broken")], ids=["ValueError", "ToolError"])
async def test_an_exception_in_a_hook_breaks_the_episode(kind, later, error):
    def hook(self, *_):
        raise error

    async def async_hook(self, *_):
        await asyncio.sleep(0)
        raise error

    broken = type("Broken", (Recorder,), {kind: async_hook if later else hook})
    environment = broken(TASK)
    played = await play(environment, "yes")
    assert played.reward is None
    assert played.error == RolloutError(kind, f"{type(error).__name__}: broken")
    assert played.stop_reason == "error"
    assert environment.log[-1] == "close"
    assert "verify" not in environment.log


class Panic(BaseException):
    """What a library of another language may raise."""


class Unspeakable(Exception):
    """Can't even be shown."""

    def __str__(self):
        raise ValueError("no words")


@pytest.mark.parametrize("kind", ["setup", "tool", "respond", "verify", "policy", "close"])
@pytest.mark.parametrize("later", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (SystemExit(3), "SystemExit: 3"),
        (GeneratorExit("over"), "GeneratorExit: over"),
        (Panic("at the Rust"), "Panic: at the Rust"),
        (Unspeakable(), "Unspeakable: (its message can't be shown: ValueError in __str__)"),
        (asyncio.CancelledError(), "something it waited for was cancelled"),
    ],
    ids=["exit", "generator", "panic", "unspeakable", "cancelled"],
)
async def test_nothing_a_hook_raises_escapes_the_episode(kind, later, error, sentence):
    def hook(self, *_):
        raise error

    async def async_hook(self, *_):
        await asyncio.sleep(0)
        raise error

    def crash(self) -> str:
        """Crash."""
        raise error

    async def async_crash(self) -> str:
        """Crash."""
        raise error

    broken = async_hook if later else hook
    hooks = {"tool": {"crash": tool(async_crash if later else crash)}, "policy": {}}.get(kind, {kind: broken})
    script = ScriptedPolicy([calls("crash") if kind == "tool" else "yes"])
    played = await rollout(type("Broken", (Recorder,), hooks)(TASK), broken if kind == "policy" else script)
    assert played.error == RolloutError(kind, sentence)
    assert played.reward == (1.0 if kind == "close" else None)


async def test_a_refusal_that_cannot_be_shown_is_answered_all_the_same():
    class Refusal(ToolError, Unspeakable):
        pass

    class Refuses(Recorder):
        @tool
        def refuse(self) -> str:
            """Refuse."""
            raise Refusal

    played = await play(Refuses, calls("refuse"), "yes")
    assert (played.reward, played.tool_errors) == (1.0, 1)


async def test_an_interrupt_from_the_keyboard_escapes_and_closes():
    class Interrupted(Recorder):
        def verify(self, rollout):
            raise KeyboardInterrupt

    environment = Interrupted(TASK)
    with pytest.raises(KeyboardInterrupt):
        await play(environment, "yes")
    assert environment.log[-1] == "close"


def test_closing_the_coroutine_of_an_episode_is_not_a_failure_of_its_hook():
    class Pending:
        def __await__(self):
            yield

    class Waits(Recorder):
        async def setup(self):
            await Pending()

    waiting = Episode(Waits(TASK))
    playing = waiting.run(ScriptedPolicy([]))
    playing.send(None)
    playing.close()
    assert (waiting.error, waiting.env.log) == (None, ["close"])


@pytest.mark.parametrize("kind", ["setup", "respond", "verify"])
async def test_only_the_policy_can_run_out_of_tokens(kind):
    def hook(self, *_):
        raise OutOfTokens("the judge's context is full")

    played = await play(type("Judged", (Recorder,), {kind: hook}), "yes")
    assert (played.reward, played.stop_reason) == (None, "error")
    assert played.error == RolloutError(kind, "OutOfTokens: the judge's context is full")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("tools", None, "tools must be a dict of Tool by name, not None"),
        ("tools", ["echo"], "tools must be a dict of Tool by name, not ['echo']"),
        ("tools", {"len": len}, "tools must be a dict of Tool by name, not {'len': <built-in function len>}"),
        ("max_turns", None, "max_turns must be a number, not None"),
        ("task", "browse", "task must be a Task, not 'browse'"),
    ],
)
async def test_a_wrong_attribute_breaks_the_episode(name, value, sentence):
    class Wrong(Recorder):
        def setup(self):
            setattr(self, name, value)

    played = await play(Wrong, "yes")
    assert (played.reward, played.error) == (None, RolloutError("setup", sentence))


class Unsure:
    """Neither true nor false, as an array of several truths is."""

    def __bool__(self):
        raise ValueError("the truth value is ambiguous")


@pytest.mark.parametrize("kind", ["setup", "tool", "respond"])
@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("done", Unsure(), "ValueError: the truth value is ambiguous"),
        ("max_turns", "16", "max_turns must be a number, not '16'"),
        ("task", None, "task must be a Task, not None"),
    ],
)
async def test_an_attribute_that_a_hook_spoils_breaks_the_episode(kind, name, value, sentence):
    class Spoiling(Recorder):
        def spoil(self, here):
            if here == kind:
                setattr(self, name, value)

        def setup(self):
            self.spoil("setup")

        @tool
        def press(self) -> str:
            """Press."""
            self.spoil("tool")
            return "pressed"

        def respond(self, message):
            self.spoil("respond")
            return user("Go on.")

    played = await play(Spoiling, calls("press"), "yes")
    assert (played.reward, played.error) == (None, RolloutError(kind, sentence))
    assert played.task == TASK


async def test_a_verifier_that_spoils_its_task_has_no_verdict():
    class Spoiling(Recorder):
        def verify(self, rollout):
            self.task = "judge"
            return 1.0

    played = await play(Spoiling, "yes")
    assert (played.reward, played.error) == (None, RolloutError("verify", "task must be a Task, not 'judge'"))
    assert played.task == TASK


async def test_an_environment_that_does_not_call_its_super_class_is_an_unscored_rollout():
    class Hasty(Recorder):
        def __init__(self, task):
            self.log = []

    played = await open_episode(Hasty, TASK).run(ScriptedPolicy(["yes"]))
    assert (played.reward, played.error.kind) == (None, "setup")
    assert "'Hasty' object has no attribute" in played.error.message


async def test_an_environment_that_breaks_in_close_keeps_its_reward():
    class Leaky(Recorder):
        def close(self):
            raise OSError("stuck")

    played = await play(Leaky, "yes")
    assert (played.reward, played.stop_reason) == (1.0, "done")
    assert played.error == RolloutError("close", "OSError: stuck")


async def test_the_first_failure_is_kept():
    class Hopeless(Recorder):
        def setup(self):
            raise ValueError("first")

        def close(self):
            raise ValueError("second")

    assert (await play(Hopeless)).error == RolloutError("setup", "ValueError: first")


async def test_an_environment_whose_constructor_fails_is_an_unscored_rollout():
    class Unmade(Recorder):
        def __init__(self, task):
            raise ImportError("no such library")

    async with open_episode(Unmade, TASK) as opened:
        assert opened.done
    assert opened.rollout.error == RolloutError("setup", "ImportError: no such library")
    assert (opened.rollout.reward, opened.rollout.task, opened.rollout.output) == (None, TASK, TASK.prompt)


@pytest.mark.parametrize("error", [PolicyError("no server"), RuntimeError("no server")])
async def test_a_policy_that_fails_gives_an_unscored_rollout(error):
    async def policy(messages, tools):
        raise error

    environment = Recorder(TASK)
    played = await rollout(environment, policy)
    assert played.reward is None
    assert played.error == RolloutError("policy", f"{type(error).__name__}: no server")
    assert environment.log == ["setup", "close"]


@pytest.mark.parametrize("reply", [None, "text", assistant("yes")], ids=["None", "text", "message"])
async def test_a_policy_without_a_completion_gives_an_unscored_rollout(reply):
    async def policy(messages, tools):
        return reply

    played = await rollout(Recorder(TASK), policy)
    assert played.reward is None
    assert played.error == RolloutError("policy", f"a policy must return a Completion, not {reply!r}")


@pytest.mark.parametrize("kind", ["setup", "respond", "verify", "policy", "tool", "close"])
async def test_a_cancelled_dependency_of_a_hook_is_a_failure_too(kind):
    async def hook(self, *_):
        waited_for = asyncio.ensure_future(asyncio.sleep(60))
        waited_for.cancel()
        await waited_for

    async def ask(self) -> str:
        """Ask."""
        await hook(self)
        return ""

    async def policy(messages, tools):
        if kind == "policy":
            await hook(None)
        return Completion(calls("ask") if kind == "tool" else assistant("yes"))

    hooks = {"ask": tool(ask)} | ({kind: hook} if kind not in ("tool", "policy") else {})
    played = await rollout(type("Broken", (Recorder,), hooks)(TASK), policy)
    assert played.error == RolloutError(kind, "something it waited for was cancelled")
    assert played.reward == (1.0 if kind == "close" else None)


# limits


async def test_max_turns_ends_the_episode_after_the_last_turn_is_answered():
    class Short(Recorder):
        max_turns = 2

    played = await play(Short, *[calls(("echo", '{"text": "a"}'))] * 5)
    assert (played.stop_reason, played.turns, played.reward) == ("max_turns", 2, 0.0)
    assert played.output[-1]["role"] == "tool"


async def test_a_reply_cut_off_ends_the_episode_and_calls_no_tool():
    async def policy(messages, tools):
        return Completion(calls(("echo", '{"text": "a')), "length")

    environment = Recorder(TASK)
    played = await rollout(environment, policy)
    assert (played.stop_reason, played.turns, played.tool_calls, played.reward) == ("length", 1, 0, 0.0)
    assert environment.log == ["setup", "verify", "close"]


OUT_OF_TIME = RolloutError("timeout", "the episode took longer than its 0.02 seconds")


@pytest.mark.parametrize("kind", ["setup", "respond", "verify", "policy", "tool"])
async def test_past_its_own_time_an_episode_has_no_reward(kind):
    async def hook(self, *_):
        await asyncio.sleep(60)

    async def policy(messages, tools):
        if kind == "policy":
            await hook(None)
        return Completion(calls("hang") if kind == "tool" else assistant("yes"))

    hooks = {"timeout_s": 0.02} | ({kind: hook} if kind not in ("tool", "policy") else {})
    environment = type("Slow", (Recorder,), hooks)(TASK)
    played = await rollout(environment, policy)
    assert (played.reward, played.stop_reason, played.error) == (None, "timeout", OUT_OF_TIME)
    assert environment.log[-1] == "close"
    assert played.seconds < 0.5


async def test_a_verdict_after_a_cancellation_that_was_caught_is_late_all_the_same():
    class Stubborn(Recorder):
        timeout_s = 0.02

        async def verify(self, rollout):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            return 1.0

    played = await play(Stubborn, "yes")
    assert (played.reward, played.stop_reason, played.error) == (None, "timeout", OUT_OF_TIME)


async def test_a_tool_that_catches_its_cancellation_is_late_all_the_same():
    class Stubborn(Recorder):
        tool_timeout_s = 0.02

        @tool
        async def wait(self) -> str:
            """Wait."""
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            return "waited"

    played = await play(Stubborn, calls("wait"), "yes")
    assert "took longer than 0.02 seconds" in answers(played)[0]
    assert (played.tool_errors, played.error) == (1, None)


@pytest.mark.parametrize("kind", ["setup", "respond", "echo"])
async def test_a_hook_that_blocks_the_loop_past_the_time_is_noticed(kind):
    def hook(self, *_):
        time.sleep(0.03)

    def echo(self) -> str:
        """Block."""
        hook(self)
        return ""

    hooks = {"timeout_s": 0.02, kind: tool(echo) if kind == "echo" else hook}
    played = await play(type("Blocking", (Recorder,), hooks)(TASK), calls("echo"), "yes")
    assert (played.reward, played.stop_reason, played.error) == (None, "timeout", OUT_OF_TIME)


async def test_the_time_limit_counts_from_the_opening():
    class Short(Recorder):
        timeout_s = 0.1

    waiting = Episode(Short(TASK))
    await asyncio.sleep(0.15)
    played = await waiting.run(ScriptedPolicy(["yes"]))
    assert (played.reward, played.stop_reason) == (1.0, "done")
    assert played.seconds < 0.1


async def test_close_is_given_up_after_a_while(monkeypatch):
    monkeypatch.setattr(hooks, "CLOSE_TIMEOUT_S", 0.02)

    class Sticky(Recorder):
        async def close(self):
            await asyncio.sleep(60)

    played = await play(Sticky, "yes")
    assert played.reward == 1.0
    assert played.error == RolloutError("close", "close took longer than 0.02 seconds and was given up")


async def test_close_is_given_up_even_if_it_ignores_that(monkeypatch):
    monkeypatch.setattr(hooks, "CLOSE_TIMEOUT_S", 0.02)
    ended = asyncio.Event()

    class Stubborn(Recorder):
        async def close(self):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(0.2)
                ended.set()

    played = await play(Stubborn, "yes")
    assert played.error == RolloutError("close", "close took longer than 0.02 seconds and was given up")
    assert not ended.is_set()
    await ended.wait()


# cancellation


@pytest.mark.parametrize("kind", ["setup", "respond", "verify", "policy", "tool"])
async def test_a_cancelled_episode_closes_once_and_has_no_rollout(kind):
    reached = asyncio.Event()

    async def hook(self, *_):
        reached.set()
        await asyncio.sleep(60)

    async def ask(self) -> str:
        """Ask."""
        await hook(self)
        return ""

    async def policy(messages, tools):
        if kind == "policy":
            await hook(None)
        return Completion(calls("ask") if kind == "tool" else assistant("yes"))

    hooks = {"ask": tool(ask)} | ({kind: hook} if kind not in ("tool", "policy") else {})
    environment = type("Waiting", (Recorder,), hooks)(TASK)
    playing = asyncio.ensure_future(rollout(environment, policy))
    await reached.wait()
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert environment.log.count("close") == 1
    assert environment.log[-1] == "close"
    assert "verify" not in environment.log


class SlowToClose(Recorder):
    def __init__(self, task):
        super().__init__(task)
        self.closing = asyncio.Event()

    async def close(self):
        self.closing.set()
        await asyncio.sleep(0.02)
        self.log.append("closed")


async def test_closing_goes_on_when_it_is_cancelled_again_and_again():
    environment = SlowToClose(TASK)
    playing = asyncio.ensure_future(play(environment, "yes"))
    await environment.closing.wait()
    for _ in range(3):
        playing.cancel()
        await asyncio.sleep(0)
    assert "closed" not in environment.log
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert environment.log.count("closed") == 1


async def test_cancelled_while_a_failing_close_runs_leaves_nothing_behind():
    class Failing(SlowToClose):
        async def close(self):
            await super().close()
            raise OSError("stuck")

    environment = Failing(TASK)
    playing = asyncio.ensure_future(play(environment, "yes"))
    await environment.closing.wait()
    playing.cancel()
    with pytest.raises(asyncio.CancelledError) as raised:
        await playing
    assert isinstance(raised.value.__cause__, OSError)
    assert environment.log[-1] == "closed"


async def test_cancelled_closing_is_still_bounded_in_time(monkeypatch):
    monkeypatch.setattr(hooks, "CLOSE_TIMEOUT_S", 0.02)

    class Sticky(SlowToClose):
        async def close(self):
            self.closing.set()
            await asyncio.sleep(60)

    environment = Sticky(TASK)
    playing = asyncio.ensure_future(play(environment, "yes"))
    await environment.closing.wait()
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(playing, 1)


async def test_a_setup_that_fails_half_way_is_closed():
    class Half(Recorder):
        async def setup(self):
            self.log.append("acquired")
            await asyncio.sleep(0)
            raise OSError("no more")

    environment = Half(TASK)
    await play(environment)
    assert environment.log == ["acquired", "close"]


async def test_an_outer_time_limit_cancels_the_episode():
    environment = Recorder(TASK)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await play(environment, calls("hang"))
    assert environment.log == ["setup", "close"]


async def test_a_hook_may_write_into_the_message_it_is_given():
    class Writes(Recorder):
        def respond(self, message):
            message["content"] = None

    reply = assistant("yes")
    assert (await play(Writes, reply)).output[-1] == reply == assistant("yes")


# scoring a finished conversation


class Shelf(Environment):
    """Counts what is put on it."""

    def setup(self):
        self.books = []

    @tool
    def put(self, book: str) -> str:
        """Put a book on the shelf.

        Args:
            book: Its title.
        """
        self.books.append(book)
        return f"{len(self.books)} books"

    def verify(self, rollout):
        return Score(len(self.books), {"turns": rollout.turns})


PUT = calls(("put", '{"book": "a"}'))


def put_answer(content: str):
    return {"role": "tool", "tool_call_id": "c0", "content": content}


async def test_a_conversation_without_tools_or_user_turns_is_scored_without_replay():
    class Exam(Environment):
        def verify(self, rollout):
            return rollout.last_reply == self.task.answer

    scored = await verify(Exam(TASK), [user("Go."), assistant("no"), user("Sure?"), assistant("yes")])
    assert (scored.reward, scored.turns, scored.stop_reason) == (1.0, 2, "done")


async def test_a_conversation_with_tools_is_replayed():
    messages = [user("Go."), PUT, put_answer("1 books"), PUT, put_answer("2 books"), assistant("Done.")]
    scored = await verify(Shelf(TASK), messages)
    assert scored.raise_for_error().reward == 2.0
    assert scored.output == messages
    assert (scored.turns, scored.tool_calls) == (3, 2)


async def test_a_rollout_is_scored_again_as_it_was():
    played = await play(Shelf, PUT, calls("missing", ("put", "{")), "Done.")
    scored = await verify(Shelf(TASK), played.output)
    assert (scored.reward, scored.output, scored.error) == (played.reward, played.output, None)


async def test_a_replay_that_differs_has_no_reward_and_keeps_the_conversation():
    messages = [user("Go."), PUT, put_answer("7 books"), assistant("Done.")]
    scored = await verify(Shelf(TASK), messages)
    assert scored.reward is None
    assert scored.error == RolloutError("replay", "message 2 is '1 books' in the replay, '7 books' in the conversation")
    assert scored.output == messages


async def test_a_replay_with_another_opening_has_no_reward():
    scored = await verify(Shelf(TASK), [user("Stay."), assistant("Done.")])
    assert scored.error == RolloutError("replay", "message 0 is 'Go.' in the replay, 'Stay.' in the conversation")


async def test_a_replay_compares_what_the_user_said():
    class Teacher(Environment):
        def respond(self, message):
            return user("Try again.") if message["content"] == "no" else None

        def verify(self, rollout):
            return 1.0

    said = [user("Go."), assistant("no"), user("Try again."), assistant("yes")]
    assert (await verify(Teacher(TASK), said)).reward == 1.0
    other = [*said[:2], user("Well done."), *said[3:]]
    assert (await verify(Teacher(TASK), other)).error.kind == "replay"


@pytest.mark.parametrize(("patience", "reward"), [(1, None), (2, 1.0), (3, 1.0)])
async def test_a_replay_may_go_on_after_the_conversation_but_not_end_before_it(patience, reward):
    class Quiz(Recorder):
        def respond(self, message):
            self.log.append("respond")
            return user("Again.") if self.log.count("respond") < patience else None

    scored = await verify(Quiz(TASK), [user("Go."), assistant("no"), user("Again."), assistant("yes")])
    assert scored.reward == reward
    if reward is None:
        said = "message 2 is 'Again.' in the conversation, but the replay ends before it"
        assert scored.error == RolloutError("replay", said)


async def test_messages_of_the_policy_after_the_end_make_no_difference():
    stopped = {"role": "tool", "tool_call_id": "c0", "content": "bye"}
    scored = await verify(Recorder(TASK), [user("Go."), calls("stop"), stopped, assistant("yes")])
    assert (scored.reward, scored.error) == (1.0, None)


async def test_a_conversation_must_begin_with_what_setup_opens_with():
    class Opens(Environment):
        def setup(self):
            return [system("Answer in digits."), user("2+2?")]

        def verify(self, rollout):
            return rollout.last_reply == "4"

    assert (await verify(Opens(Task([])), [system("Answer in digits."), user("2+2?"), assistant("4")])).reward == 1.0
    other = await verify(Opens(Task([])), [user(""), assistant("4")])
    assert other.error == RolloutError(
        "replay", "message 0 is 'Answer in digits.' in the replay, '' in the conversation"
    )


@pytest.mark.parametrize("calls", [None, 5, ["x"], [{"function": None}]], ids=repr)
async def test_an_invalid_conversation_breaks_only_its_own_replay(calls):
    messages = [user("Go."), {"role": "assistant", "content": "yes", "tool_calls": calls}]
    scored = await verify(Recorder(TASK), messages)
    assert (scored.reward is None) == (scored.error is not None) == (calls is not None)


async def test_answers_about_errors_are_not_refusals():
    class Linter(Shelf):
        @tool
        def put(self, book: str) -> str:
            """Put a book on the shelf.

            Args:
                book: Its title.
            """
            return "0 errors"

    messages = [user("Go."), PUT, put_answer("5 errors"), assistant("Done.")]
    assert (await verify(Linter(TASK), messages)).error.kind == "replay"


async def test_refusals_may_have_other_words():
    messages = [user("Go."), calls("missing"), put_answer("{'error': 'no such tool'}"), assistant("Done.")]
    assert (await verify(Shelf(TASK), messages)).reward == 0.0


@pytest.mark.parametrize(("max_turns", "reason"), [(16, "length"), (1, "max_turns")])
async def test_a_conversation_may_end_with_unanswered_calls(max_turns, reason):
    environment = Shelf(TASK)
    environment.max_turns = max_turns
    scored = await verify(environment, [user("Go."), PUT])
    assert (scored.error, scored.turns, scored.tool_calls) == (None, 1, 1)
    assert scored.output == [user("Go."), PUT]
    assert scored.stop_reason == reason


async def test_scoring_closes_the_environment_when_setup_fails():
    class Broken(Recorder):
        def setup(self):
            raise ValueError("no disk")

    environment = Broken(TASK)
    messages = [user("Go."), assistant("yes")]
    scored = await verify(environment, messages)
    assert (scored.reward, scored.error) == (None, RolloutError("setup", "ValueError: no disk"))
    assert scored.output == messages
    assert environment.log == ["close"]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add", "arguments": "{}"}}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "add", "arguments": {}}}],
        },
        {"role": "assistant", "content": "a", "tool_calls": ["oops"]},
        {"role": "assistant", "content": "a", "tool_calls": [{"id": "1", "function": None}]},
        {"role": "assistant", "content": "a", "tool_calls": {"a": 1}},
        {"role": "assistant", "content": "a", "tool_calls": 7},
        {"role": "assistant", "content": 7},
        {"role": "assistant", "content": ["a"]},
        {"role": "assistant", "content": [{"type": "text", "text": None}]},
        {"role": "assistant"},
    ],
    ids=repr,
)
async def test_a_policy_that_writes_anything_but_a_turn_gives_an_unscored_rollout(message):
    async def policy(messages, tools):
        return Completion(message)

    played = await rollout(Recorder(TASK), policy)
    assert played.reward is None
    assert played.error.kind == "policy"
    assert played.error.message.startswith("a policy must write an assistant message")


@pytest.mark.parametrize("wrong", [{"role": "assistant"}, {"role": "robot", "content": "4"}, "4", None], ids=repr)
async def test_a_conversation_to_verify_that_has_something_else_than_messages_is_unscored(wrong):
    judged = await verify(Recorder(TASK), [user("q"), wrong])
    assert judged.reward is None
    assert judged.error.message.startswith("message 1 must ")


async def test_the_first_failure_of_a_kind_is_a_warning_with_its_traceback(caplog):
    class Misspelt(Environment):
        def verify(self, rollout):
            return float(rollout.last_replay == "4")

    with caplog.at_level("DEBUG"):
        for _ in range(3):
            assert (await rollout(Misspelt(TASK), ScriptedPolicy(["4"]))).reward is None
    said = [record for record in caplog.records if "broke in verify" in record.getMessage()]
    assert [record.levelname for record in said] == ["WARNING", "DEBUG", "DEBUG"]
    assert "has no attribute 'last_replay'" in caplog.text
    assert "return float(rollout.last_replay" in caplog.text
