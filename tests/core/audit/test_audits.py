import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gym_core import Environment, Rollout, Task, assistant, jsonl, tool, user, write_rollouts
from gym_core.audit import Thresholds, audit_environment, to_html
from gym_core.cli import main
from gym_core.verifiers import contains_match, number_match

ROOT = Path(__file__).parents[3]


class Sums(Environment):
    """Right in every way."""

    tasks = [Task([user(f"What is {i}+{i}?")], answer=2 * i, id=f"sum-{i}") for i in range(501, 517)]

    def verify(self, rollout):
        return number_match(rollout.last_reply, self.task.answer)


async def found(cls, **options):
    audited = await audit_environment(cls, **options)
    return {finding.kind: finding for finding in audited.findings}


async def defects(cls, **options):
    audited = await audit_environment(cls, **options)
    return {finding.kind: finding for finding in audited.defects}


async def test_a_correct_environment_has_no_findings():
    assert await found(Sums) == {}


@pytest.mark.parametrize(
    "name",
    [
        *("gsm8k:Gsm8k", "meetings:Calendar", "guess_number:GuessNumber", "calculator:Calculator", "addition:Addition"),
        pytest.param("terminal:Terminal", marks=pytest.mark.slow),
    ],
)
def test_the_examples_have_no_findings(name, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(["audit", f"examples.{name}"]) == 0
    assert "nothing found" in capsys.readouterr().out


async def test_a_verifier_that_takes_anything_is_found():
    class Anything(Sums):
        """Any text is right."""

        def verify(self, rollout):
            return bool(rollout.last_reply) == bool(self.task.answer)

    (finding,) = (await defects(Anything)).values()
    assert (finding.kind, len(finding.tasks), finding.example["reward"]) == ("junk", 16, 1.0)
    for policy in ("always 'yes' 1", "prompt copied 1", "all answers 1", "another task's answer 1", "random text 1"):
        assert policy in finding.sentence
    assert "empty" not in finding.sentence


async def test_an_environment_that_cannot_be_made_is_found():
    class Unmade(Sums):
        """Breaks before it starts."""

        def __init__(self, task):
            raise OSError("no such file")

    finding = (await defects(Unmade))["unscored"]
    assert finding.example["error"] == "setup: OSError: no such file"


async def test_a_list_of_all_answers_that_scores_is_found():
    class Contains(Sums):
        """The answer is somewhere."""

        def verify(self, rollout):
            return contains_match(rollout.last_reply, str(self.task.answer))

    (finding,) = (await defects(Contains)).values()
    assert finding.sentence == ("mean rewards of policies that know nothing: all answers 1; expected at most 0.05")


async def test_a_list_of_answers_may_earn_as_much_as_a_guess():
    class Share(Sums):
        """Credit for the share of the reply that is the answer."""

        def verify(self, rollout):
            answer, reply = str(self.task.answer), rollout.last_reply.strip()
            return len(answer) / len(reply) if answer in reply else 0.0

    assert "junk" not in await defects(Share)


async def test_a_gold_answer_that_white_space_breaks_is_found():
    class Exact(Sums):
        """The answer to the letter."""

        def verify(self, rollout):
            return float(rollout.last_reply == str(self.task.answer))

    (finding,) = (await defects(Exact)).values()
    assert (finding.kind, finding.example["reply"]) == ("missed", "  1002\n")
    notes = await found(Exact)
    assert "1,000 for 1000 100%" in notes["respelled"].sentence
    assert "reasoning before 100%" in notes["respelled"].sentence  # a bare answer may be what is wanted
    assert not notes["respelled"].is_defect
    assert "respelled" in await defects(Exact, thresholds=Thresholds(max_respelled=0.5))


async def test_a_gold_answer_that_is_not_accepted_is_found():
    class Nothing(Sums):
        """No reply is right."""

        def verify(self, rollout):
            return 0.0

    assert (await defects(Nothing)).keys() == {"gold", "signal"}


async def test_an_answer_that_no_reply_can_give_is_not_a_defect():
    class State(Sums):
        """The answer is what tools should leave behind."""

        @tool
        def remember(self, value: int) -> str:
            """Remember a number.

            Args:
                value: The number.
            """
            self.value = value
            return "ok"

        def verify(self, rollout):
            return float(getattr(self, "value", None) == self.task.answer)

    (finding,) = (await found(State)).values()
    assert (finding.is_defect, finding.sentence) == (False, "no gold reply is known, so only junk was played")


async def test_a_broken_verifier_is_found_with_the_shortest_reply_that_breaks_it():
    class Raises(Sums):
        """Reads a number without looking."""

        def verify(self, rollout):
            return float(int(rollout.last_reply) == self.task.answer)

    finding = (await defects(Raises))["unscored"]
    assert finding.example["reply"] == ""
    assert finding.example["reward"] is None
    assert "verify: ValueError: invalid literal" in finding.example["error"]
    assert "unscored" not in await defects(Raises, thresholds=Thresholds(max_unscored=1.0))


async def test_two_scores_for_one_reply_are_found():
    class Drawn(Sums):
        """Draws its rewards."""

        def verify(self, rollout):
            return random.random()

    assert "unstable" in await defects(Drawn)


async def test_a_reward_for_length_is_found():
    class Long(Sums):
        """Pays by the character."""

        def verify(self, rollout):
            return min(1.0, len(rollout.last_reply) / 1000)

    assert {"length", "gold", "junk"} <= (await defects(Long)).keys()


async def test_an_answer_that_is_always_the_same_is_found():
    class Same(Sums):
        """Fourteen times the same."""

        tasks = [replace(task, answer=7 if i < 14 else i) for i, task in enumerate(Sums.tasks)]

    finding = (await defects(Same))["constant"]
    assert finding.sentence.startswith("'7' is the answer to 14 of 16 tasks, expected at most 75%")
    assert "constant" not in await defects(Same, limit=15)  # too few to tell


async def test_an_answer_marked_in_the_prompt_is_a_leak_and_a_mention_a_note():
    class Leaks(Sums):
        """Its prompts end in their answers."""

        tasks = [replace(task, prompt=[user(f"{i}? #### {task.answer}")]) for i, task in enumerate(Sums.tasks)]

    finding = (await defects(Leaks))["leak"]
    assert finding.sentence.startswith("the opening holds the answer, marked as such, in 100% of the tasks")
    assert finding.example == {"task": "sum-501", "shown": "0? #### 1002"}

    class Extracts(Sums):
        """Its prompts are texts that hold the answer."""

        tasks = [replace(task, prompt=[user(f"{task.answer} men and 3 women. How many men?")]) for task in Sums.tasks]

    assert await defects(Extracts) == {}
    assert not (await found(Extracts))["leak"].is_defect


async def test_an_example_in_every_prompt_is_not_a_leak():
    class Examples(Sums):
        """All its prompts end in the same answered example."""

        tasks = [replace(task, prompt=[user(f"{i}? Like this: #### 1002")]) for i, task in enumerate(Sums.tasks)]

    assert "leak" not in await found(Examples)


def test_tool_results_in_given_rollouts_are_searched(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    gsm8k = jsonl(ROOT / "examples" / "gsm8k.jsonl")
    told = [
        Rollout(1.0, [*t.prompt, assistant("?"), {"role": "tool", "content": json.dumps({"answer": t.answer})}], task=t)
        for t in gsm8k
    ]
    write_rollouts(tmp_path / "told.jsonl", told)
    assert main(["audit", "examples.gsm8k:Gsm8k", "--rollouts", str(tmp_path / "told.jsonl")]) == 1
    assert "DEFECT leak: the output of tools holds the answer, marked as such" in capsys.readouterr().out


def command(folder, *arguments):
    """The exit code and the lines of `gym-core audit`, run in a folder of its own."""
    program = [sys.executable, "-m", "gym_core.cli", "audit", *arguments]
    ran = subprocess.run(
        program, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert ran.stderr == ""
    return ran.returncode, ran.stdout.splitlines()


@pytest.mark.slow
def test_tasks_that_differ_in_another_process_are_found(tmp_path):
    (tmp_path / "drawn.py").write_text(
        "import random\n"
        "from gym_core import Environment, Task, user\n"
        "class Drawn(Environment):\n"
        "    tasks = [Task([user(f'Say {i}')], answer=random.random(), id=str(i)) for i in range(4)]\n"
        "    def verify(self, rollout):\n"
        "        return float(rollout.last_reply.strip() == str(self.task.answer))\n"
    )
    code, lines = command(tmp_path, "drawn:Drawn")
    sentence = "4 of 4 tasks differ when another process makes them, expected the same: keep the rows"
    assert (code, [line for line in lines if "DEFECT" in line]) == (
        1,
        [f"  DEFECT tasks: {sentence} (0, 1, 2 and 1 more)"],
    )


async def test_no_tasks_is_a_defect():
    class Empty(Sums):
        """Nothing to play."""

        tasks = []

    (finding,) = (await defects(Empty)).values()
    assert finding.sentence == "there are no tasks, expected one or more"


@pytest.mark.slow
def test_all_members_of_a_mix_are_audited_by_one_command(tmp_path):
    (tmp_path / "mixed.py").write_text(
        "from examples.gsm8k import Gsm8k\n"
        "from gym_core import mix\n"
        "class Anything(Gsm8k):\n"
        "    def verify(self, rollout):\n"
        "        return 1.0\n"
        "both = mix([Gsm8k, Anything])\n"
    )
    code, lines = command(tmp_path, "mixed:both", "--limit", "4", "--json", "a.json", "--html", "a.html")
    assert code == 1
    assert lines[0].split() == ["Gsm8k", "gold", "1.000", "0", "defects,", "0", "findings"]
    assert lines[1].split()[:3] == ["Anything", "gold", "1.000"]
    good, bad = json.loads((tmp_path / "a.json").read_text())["audits"]
    assert (good["environment"], good["findings"]) == ("Gsm8k", [])
    assert {finding["kind"] for finding in bad["findings"]} == {"junk", "signal"}
    assert good["policies"][0] == {"policy": "gold", "mean": 1.0, "best": 1.0, "rollouts": 4}
    assert "2 environments" in (tmp_path / "a.html").read_text()


async def test_a_page_shows_replies_and_runs_none_of_them():
    class Anything(Sums):
        """Any tag is right."""

        name = "<script>alert(1)</script>"

        def verify(self, rollout):
            return float("<" in rollout.last_reply)

    page = to_html([await audit_environment(Anything, limit=2)])
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;answer&gt;0&lt;/answer&gt;" in page
    assert "<script>" not in page
    assert "<answer>" not in page
    assert "http" not in page
