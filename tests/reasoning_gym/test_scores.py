"""Rewards are the library's own, whatever stands before its scorers."""

from typing import Any

import pytest

from gym_core import MissingDependencyError

try:
    from gym_adapters.reasoning_gym import reasoning_gym
    from gym_adapters.reasoning_gym.grammar import EVALUATED
    from gym_adapters.reasoning_gym.rows import from_json
    from gym_adapters.reasoning_gym.scores import score
except MissingDependencyError:
    pytest.skip("needs reasoning-gym", allow_module_level=True)

from reasoning_gym.factory import create_dataset

CONFIGS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in sorted(EVALUATED)),
    ("binary_matrix", {"min_n": 12, "max_n": 30}),
    ("countdown", {"min_numbers": 8, "max_numbers": 12, "max_target": 10_000}),
    ("n_queens", {"n": 5, "max_remove": 5}),
    ("polynomial_multiplication", {"allow_cross_variable_product": True, "allow_multivariate_polynomials": True}),
    ("polynomial_multiplication", {"max_terms": 8, "max_value": 1000, "max_degree": 4}),
    ("puzzle24", {"max_value": 6}),
    ("simple_integration", {"max_terms": 10, "max_degree": 30, "max_bounds": 10_000}),
    ("spiral_matrix", {"max_n": 30}),
    ("string_insertion", {"max_string_length": 90}),
]
SLOPPY = [
    *(
        "",
        "no",
        "No solution.",
        "I do not know",
        "N/A",
        "None",
        "not possible",
        "Answer is impossible",
        "...",
        "?",
        "0",
    ),
    *("24", "3", "x", "C", "True", "nan", "oo", "[]", "[[]]", "()", "1/0", "1e10", "1_000", "1,000", "007", "３", "x²"),
    *("\\boxed{24}", "$24$", "**24**", "`24`", "4!", "sqrt(16)", "#", "24 # done", "24\n25", "(", "2(3)", "2x", "= 24"),
    *("x == 24", "1 < 2", "a and b", "a is b", "{24}", "[24]", "24,", "{1: 2}", "+24", "--24", "~24", "24 % 5", "2^3"),
    *("1 << 2", "0x18", "1j", "0.[3]", "f(x)", "sin(x)", "max(1, 2)", "round(2.5)", "Rational(1, 2)", "pow(2, 3)", "e"),
]


def variants(right: str) -> list[str]:
    rows = [row.split() for row in right.split("\n")]
    numbers = [[int(cell) if cell.isdigit() else cell for cell in row] for row in rows]
    return [
        *(right, right.replace(" ", ""), right.replace("*", " * "), right.replace("*", "×"), right.replace("**", "^")),
        *(right.replace("-", "+"), right.replace("-", "−"), right.replace("1", "1.0"), right.replace("2", "3")),
        *(
            right.replace(" + C", ""),
            right.replace("C", "K"),
            right.replace("exp(", "E**("),
            right.replace("log", "ln"),
        ),
        *(f"({right})", f"[{right}]", f"'{right}'", f'"{right}"', f"{right}.", f"{right} = 24", f"{right} == 24"),
        *(f"{right} + 0", f"{right} + 1", f"2*({right})/2", f"-({right})", f"Answer: {right}", f"`{right}`", right * 2),
        *(right[1:], right[:-1], right[::-1], right.lower(), right.replace("\n", " "), right.replace(" ", "\n")),
        *(str(rows), str(numbers), str(tuple(map(tuple, numbers))), str(numbers[0]), ", ".join(map(str, numbers))),
        *(str(list(right)), str(list(right.replace(" ", ""))), str(["".join(row) for row in rows]), repr(right)),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "config"), CONFIGS, ids=str)
def test_right_altered_and_sloppy_answers_earn_the_librarys_rewards(name: str, config: dict[str, Any]) -> None:
    env = reasoning_gym(name, size=2, seed=3, **config)
    dataset = create_dataset(name, size=2, seed=3, **config)
    for task in env.tasks:
        entry = from_json(task.info["entry"])
        assert score(f"<answer>{task.answer}</answer>", task.info)["reward"] == 1.0
        for answer in (answer.strip() for answer in variants(str(task.answer)) + SLOPPY):
            expected = min(1.0, max(0.0, float(dataset.score_answer(answer, entry))))
            assert (answer, score(f"<answer>{answer}</answer>", task.info)["reward"]) == (answer, expected)
