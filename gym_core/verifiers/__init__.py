"""Verifiers: functions that judge a completion; those that need another process are async."""

from gym_core.verifiers.choice import choice_match
from gym_core.verifiers.code import code_match
from gym_core.verifiers.instructions import instruction_match
from gym_core.verifiers.json_schema import json_match
from gym_core.verifiers.math import math_match
from gym_core.verifiers.number import number_match
from gym_core.verifiers.similarity import similarity
from gym_core.verifiers.text import contains_match, exact_match, regex_match

__all__ = [
    "choice_match",
    "code_match",
    "contains_match",
    "exact_match",
    "instruction_match",
    "json_match",
    "math_match",
    "number_match",
    "regex_match",
    "similarity",
]
