"""The pages under docs: their links lead somewhere, and what is generated is up to date."""

import asyncio
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gym_core import ScriptedPolicy, rollout, write_rollouts
from gym_core.processes import isolation_problem

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])


def anchors(page):
    """The anchors GitHub gives to the headings of a page."""
    found = []
    for heading in re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.append(anchor if anchor not in found else f"{anchor}-{found.count(anchor)}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page):
    lost = []
    for link in re.findall(r"\]\(((?!http)[^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def test_the_reference_says_what_the_docstrings_say():
    page = runpy.run_path(str(ROOT / "docs" / "reference.py"))["page"]()
    is_current = page == (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert is_current, "docs/reference.md is out of date: run `make reference`"
    modules = [line for line in page.splitlines() if line.startswith("## ")]
    assert len(modules) == len(set(modules)), "a module is described twice"


class Reader:
    """Follows a page: saves its files, applies its diffs, runs its Python and its commands, and compares the output."""

    def __init__(self, page, captured):
        self.sections = (ROOT / page).read_text(encoding="utf-8").split("\n## ")
        self.namespace = {"__name__": "reader"}
        self.captured = captured
        self.said = []

    def follow(self, *titles):
        for section in self.sections:
            if section.startswith(titles):
                for language, body in re.findall(r"^```(\w+)\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
                    getattr(self, f"_{language}")(body)

    def _python(self, body):
        if saved := re.match(r"# (\w+\.py)\n", body):
            Path(saved[1]).write_text(body, encoding="utf-8")
            return
        self.captured.readouterr()
        exec(compile(body, "page", "exec"), self.namespace)
        self.said.append(self.captured.readouterr().out)

    def _diff(self, body):
        path = Path("stock.py")
        source = path.read_text(encoding="utf-8")
        for hunk in body.split("@@\n"):
            before, after = (
                "".join(line[1:] for line in hunk.splitlines(keepends=True) if line[0] in f" {sign}") for sign in "-+"
            )
            assert source.count(before) == 1
            source = source.replace(before, after)
        path.write_text(source, encoding="utf-8")

    def _console(self, body):
        for command in re.findall(r"^\$ ((?:gym-core|python) .*)$", body, re.MULTILINE):
            program, *arguments = shlex.split(command, comments=True)
            module = ["-m", "gym_core.cli"] if program == "gym-core" else []
            environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.getcwd()]), "OMP_NUM_THREADS": "1"}
            ran = subprocess.run([sys.executable, *module, *arguments], capture_output=True, text=True, env=environment)
            assert ran.returncode in (0, 1), ran.stderr
            self.said.append(ran.stdout)

    def _text(self, body):
        """What was printed, but for numbers that depend on the machine, and lines that are left out."""
        said = _without_fractions(self.said[-1])
        assert [line for line in _without_fractions(body).splitlines() if line != "..." and line not in said] == []


def _without_fractions(text):
    return re.sub(r"\d+\.\d+", "#", text)


@pytest.fixture
def reader(monkeypatch, tmp_path, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield lambda page: Reader(page, capfd)
    for name in ("stock", "prices", "fragile"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_the_tutorial_writes_and_checks_an_environment(reader):
    reading = reader("docs/tutorial.md")
    reading.follow("1. Write", "2. Play", "3. Check")
    checked, audited = reading.said[-2:]
    assert "nothing found" in checked
    assert "nothing found" in audited


@pytest.mark.slow
def test_the_tutorial_trains_on_it(reader):
    pytest.importorskip("trl")
    reading = reader("docs/tutorial.md")
    reading.follow("1. Write", "3. Check", "5. Train")
    (before, after) = re.search(r"(\d\.\d+) before, (\d\.\d+) after", reading.said[-2]).groups()
    assert float(before) < 0.4
    assert float(after) > 0.6


@pytest.mark.slow
def test_the_page_on_processes_plays_blocking_and_dying_environments(reader):
    reading = reader("docs/processes.md")
    reading.follow("# Episodes", "Limits")
    here, _, there = re.findall(r"16 of 16 right in (\d+\.\d) s", reading.said[0])
    assert float(there) < float(here) / 3


@pytest.mark.slow
@pytest.mark.skipif(bool(isolation_problem("namespaces")), reason="namespaces are not permitted here")
def test_the_sandbox_page_runs_programs_sessions_and_an_environment(reader):
    reading = reader("docs/sandbox.md")
    reading.follow("A program", "A session", "In an environment")
    shell = reading.namespace["Shell"]
    call = {"name": "run", "arguments": '{"command": "wc -l < log.txt > answer"}'}
    reply = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": call}]}
    for replies, reward in (([reply, "Done."], 1.0), (["Done."], 0.0)):
        assert asyncio.run(rollout(shell(shell.tasks[0]), ScriptedPolicy(replies))).reward == reward


def test_the_code_of_the_troubleshooting_page_runs(reader):
    reading = reader("docs/troubleshooting.md")
    reading.follow("All my rewards are None", "It hangs")
    assert reading.said[1] == (
        "RolloutError(kind='verify', message=\"ValueError: invalid literal for int() with base 10: 'It is 4.'\")\n"
    )
    rollouts = [reading.namespace["played"]] * 2
    write_rollouts("rollouts.jsonl", rollouts)
    assert [count for _, count in reading.namespace["errors"]("rollouts.jsonl")] == [2]
