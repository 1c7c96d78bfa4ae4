"""The verifier of mathematics."""

from gym_core.verifiers.math.match import math_match

__all__ = ["math_match"]
