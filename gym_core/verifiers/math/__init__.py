"""The verifier of mathematics: compares the values of answers, not their spellings."""

from gym_core.verifiers.math.match import math_match

__all__ = ["math_match"]
