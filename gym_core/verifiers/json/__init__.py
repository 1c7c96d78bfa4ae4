"""The verifier of JSON."""

from gym_core.verifiers.json.match import json_match

__all__ = ["json_match"]
