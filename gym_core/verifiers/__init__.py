"""Verifiers: functions that judge a completion, async where they need another process or a model."""

from gym_core.verifiers.choice import choice_match
from gym_core.verifiers.code import code_match
from gym_core.verifiers.instructions import instruction_match
from gym_core.verifiers.json import json_match
from gym_core.verifiers.judge import Judge, Verdict
from gym_core.verifiers.likeness import similarity
from gym_core.verifiers.math import math_match
from gym_core.verifiers.number import number_match
from gym_core.verifiers.rubric import Rubric
from gym_core.verifiers.strings import contains_match, exact_match, regex_match

__all__ = [
    "Judge",
    "Rubric",
    "Verdict",
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
