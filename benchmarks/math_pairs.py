"""Pairs of a completion and its expected answer, on which `math_match` and math-verify must agree."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from benchmarks.math_cases import HARD

DATASETS = (
    "advanced_geometry",
    "basic_arithmetic",
    "chain_sum",
    "complex_arithmetic",
    "count_primes",
    "decimal_arithmetic",
    "decimal_chain_sum",
    "dice",
    "fraction_simplification",
    "gcd",
    "gsm_symbolic",
    "lcm",
    "leg_counting",
    "number_sequence",
    "polynomial_equations",
    "polynomial_multiplication",
    "power_function",
    "prime_factorization",
    "products",
    "simple_equations",
    "simple_geometry",
    "simple_integration",
)
"""Datasets of reasoning-gym whose answers are numbers, or expressions that LaTeX writes alike except for `**`."""

PRELUDES = (
    "Let us compute this step by step.",
    "First, we note that $a_1 = 3$ and $a_2 = 7$, so the difference is 4.",
    "Substituting gives \\[ x^2 - 5x + 6 = 0, \\] which factors as $(x-2)(x-3) = 0$.",
    "There are 12 ways to choose the first and 11 ways to choose the second.",
    "We know that 3 + 4 = 7, hence the next step.",
    "By symmetry the two cases are alike, so it is enough to look at one.",
    "**Step 2.** Simplify: \\(\\frac{6}{8} = \\frac{3}{4}\\).",
)
CLOSINGS = (
    "So it is \\boxed{%s}.",
    "The answer is $\\boxed{%s}$.",
    "Therefore, the final answer is: $\\boxed{%s}$.",
    "\\[ \\boxed{%s} \\]",
    "\\boxed{%s}",
)
FORMULA_CLOSINGS = ("The answer is $%s$.", "So we get $%s$.")
PLAIN_CLOSINGS = ("The answer is %s.", "#### %s", "We get %s")


@dataclass(frozen=True)
class Pair:
    """A completion, the expected answer, and the part of the golden set."""

    completion: str
    gold: str
    part: str


def golden_pairs(size: int, *, seed: int = 0) -> list[Pair]:
    """The hard cases, then pairs from reasoning-gym and generated LaTeX in equal numbers."""
    pairs = hard_pairs(seed=seed)
    sources = (_from_reasoning_gym(seed), latex_pairs(seed=seed))
    while len(pairs) < size:
        for source in sources:
            pairs.append(next(source))
    return pairs[:size]


def hard_pairs(*, seed: int = 0) -> list[Pair]:
    """The hard cases, in completions."""
    generator = random.Random(seed)
    return [Pair(_completion(found, generator), gold, "hard") for gold, found in HARD]


def latex_pairs(*, seed: int = 0) -> Iterator[Pair]:
    """Endless pairs of generated LaTeX."""
    generator = random.Random(seed)
    kinds: list[Callable[[random.Random], tuple[str, str]]]
    kinds = [_fractions, _decimals, _roots, _polynomials, _constants, _lists]
    while True:
        for kind in kinds:
            gold, found = kind(generator)
            yield Pair(_completion(found, generator), gold, "latex")


def _from_reasoning_gym(seed: int) -> Iterator[Pair]:
    import reasoning_gym  # takes two seconds

    generator = random.Random(seed)
    datasets = [reasoning_gym.create_dataset(name, size=1000, seed=seed) for name in DATASETS]
    answers = [iter(dataset) for dataset in datasets]
    previous = ["0"] * len(datasets)
    while True:
        for i in range(len(DATASETS)):
            gold = str(next(answers[i])["answer"]).replace("**", "^")  # as LaTeX has it
            yield Pair(_completion(_judged(gold, previous[i], generator), generator), gold, "reasoning-gym")
            previous[i] = gold


def _judged(gold: str, other: str, generator: random.Random) -> str:
    """The answer itself, another spelling of it, or a wrong one."""
    kind = generator.randrange(10)
    if kind < 3:
        return gold
    if kind < 5:
        return other
    if kind < 7 and gold.lstrip("-").isdigit():
        return generator.choice(
            [f"{int(gold):,}", f"{gold}.0", f"x = {gold}", f"{gold}\\text{{ units}}", f"\\frac{{{2 * int(gold)}}}{{2}}"]
        )
    if kind < 9 and gold.lstrip("-").isdigit():
        return str(int(gold) + generator.choice([-10, -1, 1, 2]))
    return gold.replace("*", " \\cdot ") if generator.random() < 0.5 else other


def _completion(found: str, generator: random.Random) -> str:
    """A completion that ends in an answer, mostly in a box, after 0 to 15 sentences."""
    prelude = " ".join(generator.choices(PRELUDES, k=generator.randrange(16)))
    unboxed = FORMULA_CLOSINGS if re.search(r"[^-+., 0-9/]", found) else (*FORMULA_CLOSINGS, *PLAIN_CLOSINGS)
    closing = generator.choice(CLOSINGS if generator.random() < 0.85 else unboxed)
    return f"{prelude} {closing % found}".strip()


def _fractions(generator: random.Random) -> tuple[str, str]:
    top, bottom = generator.randint(-60, 60), generator.randint(2, 40)
    value = Fraction(top, bottom)
    gold = f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
    factor = generator.randint(2, 5)
    return gold, generator.choice(
        [
            f"\\dfrac{{{factor * top}}}{{{factor * bottom}}}",
            f"{top}/{bottom}",
            f"-\\frac{{{-top}}}{{{bottom}}}",
            f"\\frac{{{top + 1}}}{{{bottom}}}",
            f"\\frac{{{bottom}}}{{{top or 1}}}",
            f"{top / bottom:.{generator.randint(2, 9)}f}",
        ]
    )


def _decimals(generator: random.Random) -> tuple[str, str]:
    value = generator.randint(-(10**6), 10**6) / 10 ** generator.randint(1, 5)
    return str(value), generator.choice(
        [
            f"{value:.7f}",
            f"{value:.2f}",
            f"{value:,}",
            f"{value + 0.1:.5f}",
            f"{Fraction(str(value))}",
            f"{value}\\%",
            f"{value}\\text{{ kg}}",
        ]
    )


def _roots(generator: random.Random) -> tuple[str, str]:
    a, b, c = (generator.randint(2, 12) for _ in range(3))
    gold = f"{a}\\sqrt{{{b}}}"
    return gold, generator.choice(
        [
            f"\\sqrt{{{a * a * b}}}",
            f"{b}\\sqrt{{{a}}}",
            f"{a}\\sqrt{b}" if b < 10 else gold + "+1",
            f"\\frac{{{a * c}\\sqrt{{{b}}}}}{{{c}}}",
            f"{a}\\sqrt{{{b + 1}}}",
            f"{a * b**0.5:.6f}",
            f"\\frac{{{a * b}}}{{\\sqrt{{{b}}}}}",
        ]
    )


def _polynomials(generator: random.Random) -> tuple[str, str]:
    a, b, c = generator.randint(1, 9), generator.randint(1, 9), generator.randint(1, 9)
    letter = generator.choice("xyzn")
    gold = f"{c * 1}{letter}^2 + {c * (a + b)}{letter} + {c * a * b}"
    return gold, generator.choice(
        [
            f"{c}({letter}+{a})({letter}+{b})",
            f"{c}({letter}+{a})({letter}-{b})",
            f"{c * a * b} + {c * (a + b)}{letter} + {c}{letter}^{{2}}",
            f"{c}{letter}^2 + {c * (a + b)}{letter}",
            f"{c}\\left({letter}^2 + {a + b}{letter} + {a * b}\\right)",
            f"{letter}^2 + {a + b}{letter} + {a * b}",
        ]
    )


def _constants(generator: random.Random) -> tuple[str, str]:
    a, b = generator.randint(1, 20), generator.randint(2, 20)
    symbol = generator.choice(["\\pi", "\\ln 2", "e", "\\sqrt{2}", "\\sqrt[3]{5}"])
    gold = f"\\frac{{{a}{symbol}}}{{{b}}}"
    return gold, generator.choice(
        [
            f"\\frac{{{a}}}{{{b}}}{symbol}",
            f"({a}{symbol})/{b}",
            f"\\frac{{{2 * a}{symbol}}}{{{2 * b}}}",
            f"\\frac{{{b}{symbol}}}{{{a}}}",
            f"{a}{symbol}",
        ]
    )


def _lists(generator: random.Random) -> tuple[str, str]:
    values = generator.sample(range(-20, 20), generator.randint(2, 4))
    swapped = generator.sample(values, len(values))
    left, right = generator.choice(["()", "[]", "(]", "[)"])
    ends = sorted(values[:2])
    return generator.choice(
        [
            (", ".join(map(str, values)), ", ".join(map(str, swapped))),
            (", ".join(map(str, values)), "\\{" + ", ".join(map(str, swapped)) + "\\}"),
            (", ".join(map(str, values)), ", ".join(map(str, swapped[:-1]))),
            (f"{left}{ends[0]}, {ends[1]}{right}", f"\\left{left}{ends[0]},{ends[1]}\\right{right}"),
            (f"{left}{ends[0]}, {ends[1]}{right}", f"[{ends[0]}, {ends[1]}]"),
        ]
    )
