"""Verifiers: pure functions that judge a completion and return exactly 0.0 or 1.0."""

from gym_core.verifiers.choice import choice_match
from gym_core.verifiers.json_schema import json_match
from gym_core.verifiers.number import number_match
from gym_core.verifiers.text import contains_match, exact_match, regex_match

__all__ = [
    "choice_match",
    "contains_match",
    "exact_match",
    "json_match",
    "number_match",
    "regex_match",
]
