"""Answers for `benchmarks.hostile`: honest ones, whose reward is known, and hostile ones, of which none is right."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import count, cycle, islice

from gym_adapters.reasoning_gym import reasoning_gym
from gym_core import ScriptedPolicy, rollout
from gym_core.errors import WorkerLostError
from gym_core.processes import Sandbox
from gym_core.verifiers import code_match, json_match, math_match, regex_match

CPU_S = 1.0
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "pattern": "^([A-Za-z]+ ?)+$"}},
    "required": ["city"],
    "additionalProperties": False,
}
TREE = {"$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}, "$ref": "#/$defs/tree"}
PATTERN = r"(?m)^Answer: ((?:\w+ ?)+)$"

TEXTS = [
    "",
    "\ud800\udfff" * 100,
    "1\x00",
    "\x00" * 10_000,
    "9" * 1_000_000,
    "(" * 100_000,
    "[" * 100_000 + "]" * 100_000,
    "{" * 100_000,
    "\\frac{" * 20_000,
    "a" * 1_000_000,
    "1e999999999",
    "\u202e" + "\u0301" * 100_000,
]
FORMULAS = [
    "10^{10^{10}}",
    "9^{9^{9^{9}}}",
    r"\sin(10^{10^{10}})",
    r"\frac{10^{10^{10}}+1}{3}",
    r"\sqrt[99999999]{x^{99999999}+1}",
    "99999999!",
    r"\sum_{n=1}^{10^{12}} \sin(n^n)",
    r"\int_0^1 x^{x^{x^{x}}} dx",
    "(x+1)^{99999}",
    "{" * 5000 + "1" + "}" * 5000,
    r"\boxed{" * 5000,
]
PROGRAMS = [
    "while True: pass",
    "import re; re.match('(a+)+$', 'a' * 64 + 'b')",
    "import os\nwhile True: os.fork()",
    "x = [bytearray(1 << 24) for _ in range(10**6)]",
    "def f(x): return f(x)",
    "import os; os._exit(0)",
    "raise SystemExit(0)",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "import os; os.kill(-1, 9)",
    "import signal\nfor n in (2, 15, 24, 27): signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
    "import sys\nwhile True: sys.stdout.write('x' * 1_000_000)",
    "import subprocess\nsubprocess.Popen(['sleep', '1000'], start_new_session=True)",
    "def f(x): return 9 ** 9 ** 9 ** 9",
    "def f(x): return float('nan')",
    "class A(int):\n    __eq__ = lambda *_: True\ndef f(x): return A()",
    "x = " + "(" * 10_000,
]
EXPRESSIONS = [
    "9**9**9**9",
    "__import__('re').match('(a+)+$', 'a' * 64 + 'b')",
    "[0 for _ in iter(int, 1)]",
    "(lambda f: f(f))(lambda f: f(f))",
    "'a' * 10**11",
    "10**10**7 % 10**10**6",
    "__import__('os')._exit(0)",
    "__import__('sys').exit()",
    "__import__('os').kill(__import__('os').getpid(), 9)",
    "__import__('os').kill(__import__('os').getpid(), 11)",
    "__import__('os').kill(__import__('os').getppid(), 9)",
    "[__import__('os').fork() for _ in range(4)] and 9**9**9**9",
    "__import__('os').fork() or __import__('os').setsid() and 9**9**9**9",
    "__import__('subprocess').Popen(['sleep', '1000'], start_new_session=True)",
    "__import__('threading').Thread(target=lambda: [0 for _ in iter(int, 1)], daemon=True).start()",
    "__import__('signal').alarm(1)",
    "[__import__('signal').signal(n, lambda *_: 0) for n in (2, 15, 24, 27)] and [0 for _ in iter(int, 1)]",
    "__import__('os').closerange(0, 1000)",
    "__import__('os').write(1, b'x' * 10**9)",
    "__import__('time').sleep(1000)",
]


Verdict = tuple[float | None, str]
"""A reward, and why there is none."""


@dataclass(frozen=True)
class Answer:
    """An answer, how to judge it, and the reward it must have; None for a hostile one: less than 1, or none."""

    verifier: str
    judge: Callable[[], Awaitable[Verdict]]
    expected: float | None


def answers(size: int, sandbox: Sandbox) -> list[Answer]:
    """Answers of all verifiers in turn, each third one hostile."""
    makers = [_math(), _code(sandbox), _json(), _regex(), _reasoning_gym()]
    hostile, honest = zip(*makers, strict=True)
    return [next((hostile if n // len(makers) % 3 == 0 else honest)[n % len(makers)]) for n in range(size)]


def _math() -> tuple[Iterator[Answer], Iterator[Answer]]:
    def judge(text: str, gold: str, expected: float | None = None) -> Answer:
        return Answer("math_match", lambda: _or_none(math_match(text, gold)), expected)

    boxes = [f"\\boxed{{{formula}}}" for formula in FORMULAS]
    hostile = (judge(text, "x^2+1") for text in cycle([*boxes, *TEXTS]))
    right = (judge(f"So \\boxed{{{n}x+{n}}}", f"{n}(x+1)", 1.0) for n in count(2))
    wrong = (judge(f"So \\boxed{{{n}x+{n}}}", f"{n}(x+2)", 0.0) for n in count(2))
    return hostile, _alternate(right, wrong)


def _code(sandbox: Sandbox) -> tuple[Iterator[Answer], Iterator[Answer]]:
    def judge(text: str, n: int, expected: float | None = None) -> Answer:
        tests = {"calls": [{"function": "f", "args": [3], "expected": 3 * n}]}

        async def score() -> float:
            return (await code_match(text, tests, sandbox=sandbox, cpu_s=CPU_S)).reward

        return Answer("code_match", lambda: _or_none(score()), expected)

    blocks = [f"```python\n{program}\n```" for program in PROGRAMS]
    hostile = (judge(text, 7) for text in cycle([*blocks, *TEXTS]))
    right = (judge(f"def f(x):\n    return {n} * x", n, 1.0) for n in count(2))
    wrong = (judge(f"def f(x):\n    return {n} + x", n, 0.0) for n in count(2))
    return hostile, _alternate(right, wrong)


def _json() -> tuple[Iterator[Answer], Iterator[Answer]]:
    def judge(text: str, schema: object, expected: float | None = None) -> Answer:
        return Answer("json_match", lambda: _or_none(json_match(text, schema)), expected)  # type: ignore[arg-type]

    bomb = json.dumps({"city": "a" * 64 + "!"})
    hostile = (judge(text, CITY) for text in cycle([bomb, *TEXTS, '{"city":' * 50_000]))
    deep = (judge("[" * 5000 + "]" * 5000, TREE) for _ in count())
    right = (judge(f'{{"city": "{"ab" * (n % 9 + 1)}"}}', CITY, 1.0) for n in count())
    wrong = (judge(f'{{"city": {n}}}', CITY, 0.0) for n in count())
    return _alternate(hostile, deep), _alternate(right, wrong)


def _regex() -> tuple[Iterator[Answer], Iterator[Answer]]:
    def judge(text: str, gold: str, expected: float | None = None) -> Answer:
        return Answer("regex_match", lambda: _or_none(regex_match(text, gold, pattern=PATTERN)), expected)

    bombs = [f"Answer: {'a' * size}!" for size in (64, 1000)]
    hostile = (judge(text, "42") for text in cycle([*bombs, *TEXTS]))
    right = (judge(f"I think.\nAnswer: {n}", str(n), 1.0) for n in count())
    wrong = (judge(f"I think.\nAnswer: {n}", str(n + 1), 0.0) for n in count())
    return hostile, _alternate(right, wrong)


def _reasoning_gym() -> tuple[Iterator[Answer], Iterator[Answer]]:
    names = ["simple_integration", "polynomial_multiplication", "chain_sum"]
    environments = [reasoning_gym(name, size=50, cpu_s=CPU_S) for name in names]
    tasks = [list(environment.tasks) for environment in environments]

    def judge(text: str | None, n: int, expected: float | None = None) -> Answer:
        which = n % (len(names) - (expected is None))  # the last one does not evaluate text
        environment, task = environments[which], tasks[which][n % 50]
        reply = f"<answer>{task.answer if text is None else text}</answer>"

        async def score() -> Verdict:
            played = await rollout(environment(task), ScriptedPolicy([reply]))
            return played.reward, played.error.message if played.error else ""

        return Answer("reasoning_gym", score, expected)

    texts = [*EXPRESSIONS, *TEXTS]
    hostile = (judge(text, n) for n, text in enumerate(cycle(texts)))
    right = (judge(None, n, 1.0) for n in count())
    wrong = (judge("no idea", 2, 0.0) for _ in count())
    return hostile, _alternate(right, wrong)


def _alternate(*iterators: Iterator[Answer]) -> Iterator[Answer]:
    for iterator in cycle(iterators):
        yield from islice(iterator, 1)


async def _or_none(reward: Awaitable[float]) -> Verdict:
    try:
        return await reward, ""
    except WorkerLostError as error:
        return None, str(error)
