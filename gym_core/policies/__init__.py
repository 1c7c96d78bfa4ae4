"""Policies: what writes the next assistant message."""

import importlib
from typing import TYPE_CHECKING

from gym_core.policies.policy import Completion, Policy, ScriptedPolicy, completion_problem
from gym_core.policies.tokenized import Sampled, TokenizedPolicy, TokenPolicy, trained_track

if TYPE_CHECKING:
    from gym_core.policies.chat import ChatPolicy
    from gym_core.policies.vllm import VLLMPolicy

__all__ = [
    "ChatPolicy",
    "Completion",
    "Policy",
    "Sampled",
    "ScriptedPolicy",
    "TokenPolicy",
    "TokenizedPolicy",
    "VLLMPolicy",
    "completion_problem",
    "trained_track",
]

_LAZY = {"ChatPolicy": "gym_core.policies.chat", "VLLMPolicy": "gym_core.policies.vllm"}
"""Names whose modules import a client that loads slowly, or that may not be installed."""


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
