import json
import pickle
import re
from typing import Literal

import pytest

from gym_adapters.trl import gym_dataset, gym_environment, gym_reward
from gym_core import Environment, EpisodeError, GymError, Task, Tool, ToolError, mix, tool, user

CLOSED: list[str] = []


class Booking(Environment):
    """Tools with nested schemas and names that are no identifiers; the first task's opening is made by setup."""

    tasks = [Task([user("book")], info={"extra": extra}) for extra in ("", " a table")]
    max_turns = 3
    schema = {
        "name": "book-table",
        "description": "Book a table.\n\nArgs: this is no section",
        "parameters": {
            "type": "object",
            "properties": {
                "guests": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "age": {"type": "integer"}},
                        "required": ["name"],
                    },
                }
            },
            "required": ["guests"],
            "additionalProperties": False,
        },
    }

    async def setup(self):
        self.tools["book-table"] = Tool.from_schema(self.schema, self.book)
        self.tools["reset"] = Tool.from_schema({"name": "reset", "description": "Reset."}, lambda: {"ok": None})
        return [user("book" + self.task.info["extra"])]

    def book(self, guests):
        self.done = True
        return {"guests": guests, "é": True}

    def verify(self, rollout):
        return float(self.done)

    def close(self):
        CLOSED.append(self.task.id)


def opened(env, task=0):
    factory = gym_environment(env)
    environment = factory()
    return environment, environment.reset(**gym_dataset(env)[task])


def named(environment, name):
    return next(t for t in vars(environment).values() if getattr(t, "__name__", "") == name)


def test_one_environment_is_a_factory_and_several_are_a_dict(adder):
    assert callable(gym_environment(adder))
    assert set(gym_environment([adder, Booking])) == {"Adder", "Booking"}
    assert set(gym_environment(mix({adder: 2, Booking: 1}))) == {"Adder", "Booking"}


def test_all_its_environments_are_of_one_class_also_after_pickling(adder):
    factory = pickle.loads(pickle.dumps(gym_environment(adder)))
    assert type(factory()) is type(factory())
    again = pickle.loads(pickle.dumps(factory))
    assert again.env is adder


def test_tools_keep_their_exact_schema_and_any_name():
    environment, _ = opened(Booking)
    booking = named(environment, "book-table")
    assert booking == {"type": "function", "function": Booking.schema}
    assert named(environment, "reset")() == '{"ok": null}'


def test_results_are_json_and_an_over_episode_says_so():
    environment, _ = opened(Booking)
    booking = named(environment, "book-table")
    assert json.loads(booking(guests=[{"name": "Al"}])) == {"guests": [{"name": "Al"}], "é": True}
    assert json.loads(booking(guests=[])) == {"error": "the episode is over, tools can't be called any more"}


def test_wrong_arguments_are_answered_for_the_model(adder):
    environment, _ = opened(adder)
    add = named(environment, "add")
    assert "'b' is missing" in json.loads(add(a=1))["error"]
    assert json.loads(add(a=-1, b=1)) == {"error": "a must not be negative"}


def test_what_setup_adds_to_the_prompt_is_the_observation():
    assert opened(Booking)[1] is None
    assert opened(Booking, task=1)[1] == " a table"


def test_a_reset_closes_an_unverified_episode():
    CLOSED.clear()
    environment, _ = opened(Booking)
    probed = len(CLOSED)
    environment.reset(**gym_dataset(Booking)[1])
    assert CLOSED[probed:] == [Booking.tasks[0].id]


def test_an_opening_that_trl_cannot_show_breaks_the_episode(adder):
    class Rewritten(adder):
        """Its opening is another one than the prompt."""

        def setup(self):
            return [user("something else")]

    environment, observation = opened(Rewritten)
    assert observation is None
    assert environment.episode.error.kind == "setup"
    assert "use gym_rollout" in environment.episode.error.message


def test_tools_that_depend_on_the_task_break_the_episode(adder):
    class Growing(adder):
        """Has another tool from the second task on."""

        def setup(self):
            if self.task.id != "adder-0":
                self.tools["more"] = Tool.from_schema({"name": "more"}, lambda: "")

    environment, _ = opened(Growing, task=1)
    assert "its tools differ from those of the first task" in environment.episode.error.message


def test_an_environment_that_answers_as_the_user_is_refused_at_once(adder):
    class Chatty(adder):
        """Answers."""

        def respond(self, message):
            return None

    with pytest.raises(GymError, match=r"answers as the user .*; pass rollout_func=gym_rollout\(env\)"):
        gym_environment(Chatty)()


def test_an_environment_that_cannot_be_opened_is_refused_at_once(adder):
    class Down(adder):
        """Its server is down."""

        def setup(self):
            raise ConnectionError("refused")

    with pytest.raises(EpisodeError, match="environment 'Down' can't be opened: ConnectionError: refused"):
        gym_environment(Down)()
    with pytest.raises(GymError, match="build it with gym_dataset"):
        gym_environment(adder)().reset(prompt=[])


def test_grpo_trains_on_tools(train, adder, use_tool, logged):
    trainer = train(adder, use_tool, environment_factory=gym_environment(adder))
    metrics = logged(trainer)
    assert metrics["rewards/gym/Adder/mean"] == 1.0
    assert (metrics["gym/Adder/turns"], metrics["gym/Adder/tool_calls"], metrics["gym/Adder/brief"]) == (2.0, 1.0, 1.0)
    assert metrics["tools/failure_frequency"] == 0.0


def test_nothing_is_learned_from_a_bug_of_the_environment(train, adder, logged):
    calls = iter([99, 99, 1, -1])

    def reply(conversation):
        return "2<eos>" if "<tool>" in conversation else f'<call>add {{"a": {next(calls)}, "b": 1}}</call><eos>'

    trainer = train(adder, reply, environment_factory=gym_environment(adder))
    metrics = logged(trainer)
    assert (metrics["gym/Adder/errors"], metrics["gym/Adder/tool_errors"]) == (0.5, 0.25)
    assert metrics["reward"] == 1.0
    assert "the database is gone" in " ".join(trainer._logs["extra"]["gym_error"])


def test_calls_that_the_limit_of_iterations_left_unanswered_run_before_the_verdict(train, adder, logged):
    class Counter(adder):
        """Rewards three calls, which take all its turns."""

        tasks = [Task([user(f"{i}+2")]) for i in range(4)]

        def setup(self):
            self.calls = 0

        @tool
        def count(self) -> int:
            """Count one further."""
            self.calls += 1
            return self.calls

        def verify(self, rollout):
            assert rollout.stop_reason == "max_turns"
            return float(self.calls == 3)

    options = {"environment_factory": gym_environment(Counter), "args": {"max_tool_calling_iterations": 2}}
    trainer = train(Counter, lambda _: "<call>count {}</call><eos>", **options)
    metrics = logged(trainer)
    assert (metrics["reward"], metrics["gym/Counter/truncations"]) == (1.0, 1.0)


def test_an_answer_too_long_for_the_budget_does_not_run_its_call_twice(train, adder, logged):
    class Long(adder):
        """Its tool says more than fits."""

        def setup(self):
            self.calls = 0

        @tool
        def read(self) -> str:
            """Read it all."""
            self.calls += 1
            return "x" * 200

        def verify(self, rollout):
            assert rollout.output[-1]["tool_calls"]
            return float(self.calls == 1)

    trainer = train(Long, lambda _: "<call>read {}</call><eos>", environment_factory=gym_environment(Long))
    metrics = logged(trainer)
    assert (metrics["reward"], metrics["gym/Long/truncations"]) == (1.0, 1.0)


class Shouter(Environment):
    """Another environment with tools of its own."""

    tasks = [Task([user(f"{i}+2")], answer="HI") for i in range(2)]

    @tool
    def shout(self, text: Literal["hi", "ho"]) -> str:
        """Say it louder.

        Args:
            text: What to shout.
        """
        if text == "ho":
            raise ToolError("not that")
        return text.upper()

    def verify(self, rollout):
        return float(rollout.last_reply == self.task.answer)


def test_several_environments_each_show_their_own_tools(train, adder, logged):
    class Small(adder):
        """Two tasks of Adder."""

        tasks = adder.tasks[:2]

    both = [Small, Shouter]

    def reply(conversation):
        if "<tool>" in conversation:
            return ("HI" if "HI" in conversation else re.findall(r'"sum": (\d+)', conversation)[0]) + "<eos>"
        call = 'shout {"text": "hi"}' if next(turns) else 'add {"a": 0, "b": 2}'
        return f"<call>{call}</call><eos>"

    dataset = gym_dataset(both).select([0, 2])
    turns = iter([0] * 4 + [1] * 4)
    options = {"environment_factory": gym_environment(both), "args": {"per_device_train_batch_size": 8}}
    trainer = train(both, reply, dataset=dataset, **options)
    metrics = logged(trainer)
    assert metrics["gym/Small/tool_calls"] == metrics["gym/Shouter/tool_calls"] == 1.0
    names = {name: [t.__name__ for t in tools] for name, tools in trainer._env_tools.items()}
    assert names == {"Small": ["add"], "Shouter": ["shout"]}


def test_the_same_environment_twice_at_once_shares_no_state(adder):
    factory = gym_environment(Booking)
    one, two = factory(), factory()
    dataset = gym_dataset(Booking)
    one.reset(**dataset[0])
    two.reset(**dataset[0])
    named(one, "book-table")(guests=[])
    assert (one.episode.env.done, two.episode.env.done) == (True, False)
    assert gym_reward(Booking).__name__ == "gym/Booking"
