"""The verifier of JSON: validates a value against a JSON schema."""

from gym_core.verifiers.json.match import json_match

__all__ = ["json_match"]
