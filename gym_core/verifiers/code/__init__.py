"""The verifier of code."""

from gym_core.verifiers.code.match import code_match

__all__ = ["code_match"]
