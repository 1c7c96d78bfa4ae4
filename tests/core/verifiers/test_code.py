"""The verifier of code: what passes, what fails, and every way we know to cheat."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gym_core.errors import WorkerLostError
from gym_core.processes import Command, Sandbox
from gym_core.verifiers import code_match
from gym_core.verifiers.code.comparison import is_expected, matches
from gym_core.verifiers.code.values import to_json
from tests.core.processes.test_sandbox import REFUSAL, isolated

ISOLATION = "none" if REFUSAL else "namespaces"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox(["pytest"], isolation=ISOLATION)
    yield sandbox
    sandbox.close()


def python(code: str) -> str:
    return f"Here it is:\n```python\n{code}\n```\nDone."


ADD = python("def add(a, b):\n    return a + b")
CALLS = {
    "calls": [{"function": "add", "args": [1, 2], "expected": 3}, {"function": "add", "args": [0, 5], "expected": 5}]
}
CASES = {"cases": [{"stdin": "1 2\n", "stdout": "3\n"}, {"stdin": "0 5\n", "stdout": "5"}]}
ASSERTS = {"asserts": ["assert add(1, 2) == 3", "assert add(0, 5) == 5"]}
PYTEST = {
    "pytest": "import pytest\nfrom solution import *\n\n@pytest.mark.parametrize(('a', 'b'), [(1, 2), (0, 5)])\n"
    "def test_add(a, b):\n    assert add(a, b) == a + b\n"
}
KINDS = {"calls": CALLS, "cases": CASES, "asserts": ASSERTS, "pytest": PYTEST}


@pytest.mark.parametrize(
    ("completion", "answer", "passed"),
    [
        ("", CALLS, []),
        ("```python\n\n```", {"cases": [{"stdin": "", "stdout": ""}]}, []),
        ("I cannot do that.", CASES, [0, 0]),
        ("def add(a, b):\n    return a + b", CALLS, [1, 1]),
        (ADD, CALLS, [1, 1]),
        (ADD, ASSERTS, [1, 1]),
        (ADD, PYTEST, [1, 1]),
        (python("print(sum(map(int, input().split())))"), CASES, [1, 1]),
        (python("def add(a, b):\n    return b") + ADD, CALLS, [1, 1]),
        (ADD + python("def add(a, b):\n    return b"), CALLS, [0, 1]),
        (ADD + "```text\nno code\n```", CALLS, [1, 1]),
        (python("def add(a, b):\n    return b"), ASSERTS, [0, 1]),
        (python("def add(a, b):\n    return b"), PYTEST, [0, 1]),
        (python("def add(a, b):\n    return 1 / 0"), PYTEST, [0, 0]),
        (python("def other(): pass"), PYTEST, [0, 0]),
        (python("def add(a, b:"), PYTEST, []),
        (python("def add(a, b):\n    return str(a + b)"), CALLS, [0, 0]),
        (python("def add(a, b):\n    return a + b + 1e-12"), CALLS, [1, 1]),
        (python("print(*input())"), {"cases": [{"stdin": "ab", "stdout": "a b \n\n"}]}, [1]),
        (python("print(' a')"), {"cases": [{"stdin": "", "stdout": "a"}]}, [0]),
        (
            python("class Solution:\n    def pair(self, n):\n        return n, {'x': [n]}"),
            {"calls": [{"function": "Solution().pair", "args": [1], "expected": [1, {"x": [1]}]}]},
            [1],
        ),
        (
            python("def power(n):\n    return 10 ** n"),
            {"calls": [{"function": "power", "args": [5000], "expected": 10**5000}]},
            [1],
        ),
        (
            python("def sort(items):\n    items.sort()\n\nclass Stack(list):\n    push = list.append"),
            {
                "setup": "import math",
                "asserts": [
                    "items = [2, 1]\nsort(items)\nassert items == [1, 2]",
                    "try:\n    sort(1)\nexcept AttributeError:\n    pass\nelse:\n    assert False",
                    "assert math.isclose(len(str(sort)) and 1.0, 1.0)",
                ],
            },
            [1, 1, 1],
        ),
        (
            python("class Stack:\n    def __init__(self): self.x = []\n    def push(self, n): self.x.append(n)"),
            {"asserts": ["s = Stack()\ns.push((1, {2}))\nassert s.x == [(1, {2})]", "assert Stack() == Stack()"]},
            [1, 0],
        ),
    ],
)
async def test_table(sandbox: Sandbox, completion: str, answer: dict[str, Any], passed: list[int]) -> None:
    score = await code_match(completion, answer, sandbox=sandbox)
    components = dict(score.components)
    share = components.pop("passed")
    assert components.pop("limits") == 0.0
    assert (list(components.values()) or [0.0]) == (passed or [0.0])
    assert share == (sum(passed) / len(passed) if passed else 0.0)
    assert score.reward == float(share == 1.0)


async def test_components_name_the_tests(sandbox: Sandbox) -> None:
    assert list((await code_match(ADD, CALLS, sandbox=sandbox)).components) == ["passed", "limits", "1", "2"]
    names = list((await code_match(ADD, PYTEST, sandbox=sandbox)).components)
    assert names == ["passed", "limits", "test_add[1-2]", "test_add[0-5]"]


# Ways to pass without solving anything. Each is put before a wrong `add`, or before a program that prints nothing.

CHEATS = {
    "exit": "import sys; sys.exit(0)",
    "hard exit": "import os; os._exit(0)",
    "exit in the call": ("import os\ndef add(a, b): os._exit(0)"),
    "raise SystemExit in the call": "def add(a, b): raise SystemExit(0)",
    "equal to everything": (
        "class Any:\n"
        "    def __eq__(self, other): return True\n"
        "    def __ne__(self, other): return False\n"
        "    def __hash__(self): return 1\n"
        "    def __contains__(self, item): return True\n"
        "def add(a, b): return Any()"
    ),
    "number equal to everything": (
        "class Any(int):\n"
        "    def __eq__(self, other): return True\n"
        "    __hash__ = int.__hash__\n"
        "    def __repr__(self): return '9'\n"
        "def add(a, b): return Any(7)"
    ),
    "patched comparison": (
        "import builtins, json, math\n"
        "math.isclose = lambda *a, **k: True\n"
        "builtins.AssertionError = type('Never', (Exception,), {})\n"
        "json.dumps = lambda *a, **k: '9'\n"
        "builtins.all = builtins.any = builtins.isinstance = lambda *a: True"
    ),
    "patched globals": ("__builtins__ = {}\n__all__ = ['add']\nall = any = len = abs = isinstance = lambda *a: True"),
    "patched frames": (
        "import sys\n"
        "frame = sys._getframe()\n"
        "while frame:\n"
        "    frame.f_globals.update(_same=lambda *a: True, passed=True)\n"
        "    frame = frame.f_back"
    ),
    "trace": ("import sys\nsys.settrace(lambda *a: None); sys.setprofile(lambda *a: None)"),
    "patched pytest": (
        "import sys, types\n"
        "sys.modules['pytest'] = types.ModuleType('pytest')\n"
        "open('conftest.py', 'w').write('import os; os._exit(0)')\n"
        "open('pytest.py', 'w').write('')\n"
        "open('pytest.ini', 'w').write('[pytest]')"
    ),
    "tests of its own": ("def test_one(): pass\ndef test_two(): pass"),
    "found tests": (
        "import gc, os\n"
        "for thing in gc.get_objects():\n"
        "    if isinstance(thing, dict) and {'expected', 'snippet', 'pytest'} & {*map(str, thing)}: os._exit(7)"
    ),
    "verdict on every descriptor": (
        "import os\n"
        'verdict = b\'{"loaded": true, "tests": [{"test": "", "passed": true}], "ended": -9}\'\n'
        "for number in range(200):\n"
        "    try: os.write(number, verdict)\n"
        "    except OSError: pass"
    ),
    "verdict and exit": (
        "import os\n"
        'os.write(1, b\'{"loaded": true, "tests": [{"test": "a", "passed": true}], "ended": -9}\')\n'
        "os._exit(0)"
    ),
    "verdict at exit": ("import atexit, os\natexit.register(os.write, 1, b'9')\ndef add(a, b): raise SystemExit"),
    "kill the judge": (
        "import os, signal\n"
        "for number in range(1, 65):\n"
        "    if number not in (17, 18):\n"
        "        try: os.kill(1, number)\n"
        "        except OSError: pass"
    ),
    "fork and answer twice": ("import os\nos.fork()"),
    "answers of its own to the judge": (
        "import os\n"
        "for number in range(3, 200):\n"
        "    try: os.write(number, b'[\"value\", 9, []]\\n' * 4)\n"
        "    except OSError: pass"
    ),
    "passing for data": (
        "class Sneaky(dict):\n    def items(self): return [('__builtins__', {}), ('add', 9)]\nadd = Sneaky()"
    ),
}


@isolated
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cheat", CHEATS)
async def test_no_cheat_passes(sandbox: Sandbox, kind: str, cheat: str) -> None:
    wrong = "" if "add" in CHEATS[cheat] else "\ndef add(a, b): return 7"
    score = await code_match(python(CHEATS[cheat] + wrong), KINDS[kind], sandbox=sandbox)
    assert (score.reward, score.components["passed"]) == (0.0, 0.0)


@isolated
async def test_the_tests_are_not_in_the_memory_of_the_solution(sandbox: Sandbox) -> None:
    code = (
        "import gc\n"
        "def add(word, own):\n"
        "    word, kept = word[::-1], [word[::-1] * own]\n"
        "    found = [thing for thing in gc.get_objects() if isinstance(thing, list | tuple | dict)]\n"
        "    return sum(any(isinstance(part, str) and word in part for part in\n"
        "        (thing.values() if isinstance(thing, dict) else thing)) for thing in found)"
    )
    answer = {"asserts": ["assert add('puos-otamot', 0) == 0  # tomato-soup", "assert add('puos-otamot', 1) == 1"]}
    assert (await code_match(python(code), answer, sandbox=sandbox)).reward == 1.0


@isolated
async def test_files_of_the_solution_are_not_imported_by_the_tests(sandbox: Sandbox) -> None:
    code = "open('fractions.py', 'w').write('Fraction = lambda *a: 7')\ndef add(a, b): return 7"
    answer = {"asserts": ["import fractions\nassert add(1, 2) == fractions.Fraction(3)"]}
    assert (await code_match(python(code), answer, sandbox=sandbox)).reward == 0.0


@isolated
@pytest.mark.parametrize("name", ["mem", "fd/0", "environ"])
async def test_the_judge_is_closed_to_the_solution_where_that_sees_a_proc(name: str) -> None:
    code = f"import os\ndef add(a, b):\n    open(f'/proc/{{os.getppid()}}/{name}', 'rb').close()\n    return a + b"
    sandbox = Sandbox(isolation=Command(["env"]))
    try:
        assert (await code_match(python(code), ASSERTS, sandbox=sandbox)).reward == 0.0
    finally:
        sandbox.close()


@isolated
async def test_tests_that_are_stopped_before_the_last_earn_nothing(sandbox: Sandbox) -> None:
    test = (
        "import pytest\nfrom solution import *\n"
        "@pytest.fixture\ndef stop():\n    yield\n    raise KeyboardInterrupt\n"
        "def test_first(stop): assert add(1, 2) == 3\n"
        "def test_second(): assert add(0, 5) == 5"
    )
    score = await code_match(ADD, {"pytest": test}, sandbox=sandbox)
    assert (score.reward, score.components["test_first"]) == (0.0, 1.0)


AREA = "assert math.isclose(area(2), 12.566370614)"
ALWAYS = "class Always:\n    def __getattr__(self, name): return lambda *a, **k: True\n"


@pytest.mark.parametrize(
    ("test", "code"),
    [
        ("import math\nfrom solution import *\ndef test():\n    " + AREA, ALWAYS + "math = Always()"),
        ("from solution import *\nimport math\ndef test():\n    " + AREA, ALWAYS + "math = Always()"),
        ("from solution import *\ndef test():\n    import math\n    " + AREA, ALWAYS + "math = Always()"),
        (
            "from math import *\nfrom solution import *\ndef test():\n    assert isclose(area(2), 12.5663706)",
            "isclose = max",
        ),
        ("PI = 3.14159265\nfrom solution import *\ndef test():\n    assert area(2) == 4 * PI", "PI = 1.75"),
        (
            "def check(value):\n    assert value == 12\nfrom solution import *\ndef test():\n    check(area(2))",
            "def check(value): pass",
        ),
        (
            "import pytest\nfrom solution import *\ndef test():\n    assert area(2) == pytest.approx(12.566370614)",
            "class Wrong:\n    def approx(self, *a, **k): return 7\npytest = Wrong()",
        ),
    ],
)
async def test_a_solution_replaces_no_name_of_the_test_file(sandbox: Sandbox, test: str, code: str) -> None:
    wrong = python(f"{code}\ndef area(r): return 7")
    assert (await code_match(wrong, {"pytest": test}, sandbox=sandbox)).reward == 0.0


async def test_a_solution_may_add_names_that_the_test_file_does_not_have(sandbox: Sandbox) -> None:
    code = "import math\nPI = math.pi\ndef area(r): return PI * r ** 2"
    test = "import math\nfrom solution import *\ndef test():\n    assert area(2) == 4 * math.pi == 4 * PI"
    assert (await code_match(python(code), {"pytest": test}, sandbox=sandbox)).reward == 1.0


@pytest.mark.parametrize(
    ("test", "code", "reward"),
    [
        ("assert all(map(lambda pair: f(*pair), [(1, 2)]))", "def f(*a): raise StopIteration", 0.0),
        ("for number in map(f, [1]):\n    assert number == 7", "def f(*a): raise StopIteration", 0.0),
        ("assert list(f(3)) == [0, 1, 2]", "def f(n): yield from range(n)", 1.0),
        ("i = iter([])\nit = f()\nassert (next(it), next(it, None)) == (1, None)", "def f(): yield 1", 1.0),
    ],
)
async def test_a_solution_that_stops_an_iteration_ends_no_loop_of_the_test(
    sandbox: Sandbox, test: str, code: str, reward: float
) -> None:
    assert (await code_match(python(code), {"asserts": [test]}, sandbox=sandbox)).reward == reward


@pytest.mark.parametrize(
    "test",
    [
        "assert list(f(3)) == [0, 1, 2]",
        "assert sum(f(3)) == 3 and 2 in f(3) and sorted(f(2)) == [0, 1]",
        "assert f and g(function=1) == 1",
        "assert not Box([]) and Box([1]) and len(Box([1])) == 1 and Box([5])[0] == 5",
        "assert Box([]).anything == 'anything'",
        "try:\n    b''.decode(word())\nexcept LookupError:\n    pass\ntry:\n    decode()\nexcept ValueError:\n    pass",
        "try:\n    len(f)\nexcept TypeError:\n    pass\nelse:\n    assert False",
    ],
)
async def test_an_object_of_the_solution_behaves_as_it_would_in_one_process(sandbox: Sandbox, test: str) -> None:
    code = (
        "def f(n): yield from range(n)\ndef g(function): return function\n"
        "def word(): return 'no-such-codec'\ndef decode(): return b'\\xff'.decode()\n"
        "class Box:\n"
        "    def __init__(self, items): self.items = items\n"
        "    def __len__(self): return len(self.items)\n"
        "    def __getitem__(self, i): return self.items[i]\n"
        "    def __getattr__(self, name): return name\n"
    )
    assert (await code_match(python(code), {"asserts": [test]}, sandbox=sandbox)).reward == 1.0


# What a solution claims to have returned, when it finds the descriptor and writes to it itself.
FOUND_DESCRIPTOR = """
import os, sys
def add(a, b):
    frame = sys._getframe()
    while "answer" not in frame.f_locals:
        frame = frame.f_back
    data = CLAIMED.encode()
    while data:
        data = data[os.write(frame.f_locals["answer"], data):]
    os._exit(0)
"""
SAME_HASH = '{"set": [' + ",".join(str((2**61 - 1) * i) for i in range(1, 41_000)) + "]}"


@pytest.mark.parametrize("claimed", ['{"complex": [1' + "0" * 400 + ", 0]}", '{"int": []}', "[" * 100_000, '{"a": 1}'])
async def test_a_claim_that_is_not_a_value_is_wrong(sandbox: Sandbox, claimed: str) -> None:
    code = FOUND_DESCRIPTOR.replace("CLAIMED", repr(claimed))
    score = await code_match(python(code), CALLS, sandbox=sandbox)
    assert (score.reward, score.components["passed"]) == (0.0, 0.0)


@pytest.mark.slow
async def test_numbers_of_the_same_hash_hold_up_no_other_episode() -> None:
    longest_s = 0.0

    async def tick() -> None:
        nonlocal longest_s
        while True:
            started_s = time.monotonic()
            await asyncio.sleep(0.01)
            longest_s = max(longest_s, time.monotonic() - started_s)

    assert await is_expected("[" + "1, " * 5000 + "1]", [1] * 5001)  # starts a worker
    ticking = asyncio.ensure_future(tick())
    assert not await is_expected(SAME_HASH, {1})
    ticking.cancel()
    assert longest_s < 1


@pytest.mark.parametrize(
    ("found", "expected", "is_same"),
    [
        ("3", "3", True),
        ("3.0000000001", "3", True),
        ("true", "1", True),
        ('"3"', "3", False),
        ('{"tuple": [1, 2]}', "[1, 2]", True),
        ("[1]", "[1, 1]", False),
        ('{"dict": [["a", {"set": [2, 1]}]]}', '{"dict": [["a", {"set": [1, 2]}]]}', True),
        ('{"dict": [["a", 1], ["b", 2]]}', '{"dict": [["a", 1]]}', False),
        ('{"int": "0x1000000000000000000000"}', "1.0", False),
        ("NaN", "1.0", False),
        ("", "1", False),
        ('{"object": 0}', "1", False),
    ],
)
def test_values_are_compared_not_their_spellings(found: str, expected: str, is_same: bool) -> None:
    assert matches(found, expected) is is_same


KINDS_OF_VALUES = st.sampled_from(["int", "set", "dict", "tuple", "array", "bytes", "complex", "object", "?"])
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda item: st.lists(item, max_size=3) | st.dictionaries(KINDS_OF_VALUES, item, max_size=2),
)


@given(PLAIN, PLAIN)
def test_no_claim_causes_an_error(found: Any, expected: Any) -> None:
    assert matches(json.dumps(found), to_json(expected)) in (True, False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["```" + " " * 200_000 + "`", "~~~" + "~" * 200_000 + "`", "```" + "a" * 200_000 + "`"]
)
async def test_a_long_line_is_read_in_linear_time(sandbox: Sandbox, text: str) -> None:
    started_s = time.process_time()
    await code_match(text, CASES, sandbox=sandbox)
    assert time.process_time() - started_s < 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_a_loop_meets_its_limit(sandbox: Sandbox, kind: str) -> None:
    code = "def add(a, b):\n    while True: pass\nif __name__ == '__main__': add(1, 2)"
    score = await code_match(python(code), KINDS[kind], sandbox=sandbox, cpu_s=0.5)
    assert (score.reward, score.components["limits"]) == (0.0, 1.0)


@pytest.mark.slow
async def test_a_machine_that_is_too_slow_gives_no_score(sandbox: Sandbox) -> None:
    with pytest.raises(WorkerLostError):
        await code_match(python("while True: pass"), CASES, sandbox=sandbox, cpu_s=60, wall_s=0.5)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({}, "must have one of"),
        ({"calls": [], "cases": []}, "must have one of"),
        ({"calls": []}, "one test or more"),
        ({"pytest": ""}, "one test or more"),
        ({"asserts": ["assert ("]}, "must be Python"),
    ],
)
async def test_the_author_is_to_blame_for_an_invalid_answer(
    sandbox: Sandbox, answer: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        await code_match(ADD, answer, sandbox=sandbox)


async def test_pytest_needs_a_sandbox_that_has_imported_it() -> None:
    sandbox = Sandbox(isolation=ISOLATION, size=1)
    with pytest.raises(ValueError, match="imported pytest"):
        await code_match(ADD, PYTEST, sandbox=sandbox)
    sandbox.close()
