"""The worker of `math_match`: math-verify, which the parent never imports."""

from functools import lru_cache
from typing import Any

import latex2sympy2_extended.latex2sympy2 as latex2sympy2
from antlr4.atn.PredictionMode import PredictionMode
from math_verify import parse, verify


def math_verify_match(gold: str, text: str) -> bool:
    """Whether math-verify finds the gold answer in a text."""
    return bool(verify(_parsed_gold(gold), parse(text, parsing_timeout=None), timeout_seconds=None))


@lru_cache(maxsize=1024)
def _parsed_gold(gold: str) -> list[Any]:
    return list(parse(f"\\boxed{{{gold}}}", parsing_timeout=None))


class _TwoStageParser(latex2sympy2._Latex2Sympy):  # type: ignore[misc]  # the library is untyped
    """Parses in ANTLR's SLL mode, and in LL mode where SLL fails: the same trees in a third of the time.

    SLL gives either the tree of LL or an error
    (https://www.antlr.org/api/Java/org/antlr/v4/runtime/atn/PredictionMode.html).
    """

    mode = PredictionMode.SLL

    def create_parser(self, latex_str: str) -> Any:
        parser = super().create_parser(latex_str)
        parser._interp.predictionMode = self.mode
        return parser

    def parse(self, latex_str: str) -> Any:
        try:
            return super().parse(latex_str)
        except Exception:  # the library raises nothing more specific
            self.mode = PredictionMode.LL
            return super().parse(latex_str)


latex2sympy2._Latex2Sympy = _TwoStageParser

# The zygote imports this: each worker is forked with the tables that the parser and sympy build at their first use.
math_verify_match(r"\sin x", r"\boxed{\cos x}")
