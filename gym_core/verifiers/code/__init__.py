"""The verifier of code: runs what a model wrote, and judges it where that can't reach."""

from gym_core.verifiers.code.match import code_match

__all__ = ["code_match"]
