import random
from collections import Counter

import pytest

from gym_core import Environment, Task, Tool, assistant, system, tool, tool_call, user
from gym_core.audit import as_text, audit_environment, check_environment
from gym_core.verifiers import number_match


class Sums(Environment):
    """Right in every way."""

    tasks = [Task([system("End with ####."), user(f"{i}+{i}")], answer=2 * i, id=f"sum-{i}") for i in range(1, 5)]

    def verify(self, rollout):
        return number_match(rollout.last_reply, self.task.answer, after="####")


async def defects(cls, *, audit=check_environment, **options):
    return (await audit(cls, **options)).defects


async def sentences(cls, **options):
    return [finding.sentence for finding in await defects(cls, **options)]


async def test_nothing_is_found_in_a_good_environment():
    checked = await check_environment(Sums)
    assert checked.findings == ()
    assert [row.policy for row in checked.policies] == ["gold", "empty", "format only", "prompt copied", "all answers"]


async def test_a_check_is_reported_as_an_audit_is():
    lines = as_text(await check_environment(Sums)).splitlines()
    assert lines[0].startswith("Sums: 4 tasks, 64 rollouts, ")
    assert (lines[1].split(), lines[2].split()) == (["policy", "mean", "best"], ["gold", "1.000", "1.000"])
    assert lines[-1] == "  nothing found"


async def test_only_the_first_tasks_are_played():
    class Broken(Sums):
        """Its last task breaks."""

        def setup(self):
            if self.task.id == "sum-4":
                raise RuntimeError("no more")

    assert await defects(Broken, limit=3) == ()
    (finding,) = await defects(Broken)
    assert (finding.kind, finding.tasks) == ("unscored", ("sum-4",))
    assert finding.example["error"] == "setup: RuntimeError: no more"


async def test_no_tasks_is_a_problem():
    class Empty(Sums):
        """Nothing to play."""

        tasks = []

    assert await sentences(Empty) == ["there are no tasks, expected one or more"]


@pytest.mark.parametrize("audit", [check_environment, audit_environment])
async def test_tasks_must_be_the_same_again_unique_and_json(audit):
    class Odd(Sums):
        """Its tasks are drawn, share an id, and hold tuples."""

        tasks = (Task([user(str(random.random()))], answer=(1, 2), id="same") for _ in range(9))

        def verify(self, rollout):
            return 0.5 if rollout.last_reply == "[1, 2]" else 0.0

    found = await sentences(Odd, audit=audit, limit=2)
    assert "other tasks come when they are iterated over again, expected the same ones" in found
    assert "several tasks have the same id, expected one task per id" in found
    assert "tasks change on their way through JSON, expected lists instead of tuples, and strings as keys" in found


@pytest.mark.parametrize(
    ("is_taken", "policy"),
    [
        (lambda reply: not reply, "empty 1"),
        (lambda reply: reply.endswith("1+1"), "prompt copied 0.25"),
        (lambda reply: len(reply.splitlines()) == len(Sums.tasks), "all answers 1"),
    ],
)
async def test_junk_that_scores_like_the_gold_reply_is_a_problem(is_taken, policy):
    class Generous(Sums):
        """Takes one kind of junk."""

        def verify(self, rollout):
            return max(super().verify(rollout), float(is_taken(rollout.last_reply)))

    (finding,) = await defects(Generous)
    assert (finding.kind, finding.example["reward"]) == ("junk", 1.0)
    assert f"know nothing: {policy};" in finding.sentence


async def test_a_verifier_with_two_verdicts_on_one_reply_is_a_problem():
    class Moody(Sums):
        """Gives another score to a reply that it has seen."""

        tasks = [Task([user("?")], id="only")]
        seen = Counter()

        def verify(self, rollout):
            self.seen[rollout.last_reply] += 1
            return 0.5 if self.seen[rollout.last_reply] > 1 else 0.0

    (finding,) = await defects(Moody)
    assert (finding.kind, finding.tasks) == ("unstable", ("only",))
    assert finding.sentence == "the same reply earns 0.0 and then 0.5, expected the same score"


class Switch(Environment):
    """On or off, by a tool; the gold reply is in the task."""

    tasks = [
        Task([user("on, please")], id="on", info={"gold": [assistant(tool_calls=[tool_call("turn_on")]), "Done."]})
    ]

    def setup(self):
        self.on = False

    @tool
    def turn_on(self) -> str:
        """Turn it on."""
        self.on = True
        return "on"

    def verify(self, rollout):
        return float(self.on)


async def test_a_gold_reply_may_call_tools():
    assert await defects(Switch) == ()

    class AlwaysOn(Switch):
        """Is on from the start."""

        def setup(self):
            self.on = True

    junk, signal = sorted(await defects(AlwaysOn), key=lambda finding: finding.kind)
    assert "empty 1" in junk.sentence
    assert signal.kind == "signal"


async def test_a_gold_reply_that_breaks_is_a_problem():
    class Fused(Switch):
        """Its tool is broken."""

        @tool
        def turn_on(self) -> str:
            """Turn it on."""
            raise RuntimeError("no power")

    (finding,) = await defects(Fused)
    assert (finding.kind, finding.tasks) == ("unscored", ("on",))
    assert finding.sentence.endswith("have no reward, expected at most 0%: gold")
    assert "RuntimeError: no power" in finding.example["error"]


@pytest.mark.parametrize("audit", [check_environment, audit_environment])
async def test_tool_names_must_be_accepted_by_servers(audit):
    class Dotted(Switch):
        """Has a tool with a name of its own."""

        def setup(self):
            super().setup()
            self.tools["a.b"] = Tool.from_schema({"name": "a.b"}, lambda: "")

    (finding,) = await defects(Dotted, audit=audit)
    assert (finding.kind, finding.tasks) == ("tools", ("on",))
    assert finding.sentence == "tool 'a.b' needs a name of letters, digits, '_' and '-', 64 at most"
