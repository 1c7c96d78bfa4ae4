"""The verifier of code: runs what a model wrote, and judges the results out of its reach."""

from gym_core.verifiers.code.match import code_match

__all__ = ["code_match"]
