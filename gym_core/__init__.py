"""Environments and verifiers for reinforcement learning of language models."""

import importlib
from typing import TYPE_CHECKING

from gym_core.collect import collect
from gym_core.environment import Environment, EnvironmentFactory, Score
from gym_core.episode import Episode, open_episode, rollout
from gym_core.errors import (
    EnvironmentSpecError,
    EpisodeError,
    GymError,
    MissingDependencyError,
    OutOfTokens,
    PolicyError,
    TaskError,
    TemplateError,
    ToolError,
)
from gym_core.export import Rows, kto_rows, preference_pairs, sft_rows, write_jsonl
from gym_core.judges import Judge, Verdict
from gym_core.messages import Message, ToolCall, ToolSchema, assistant, last_reply, system, text, tool_call, user
from gym_core.mixes import load_environment, mix
from gym_core.policies import Completion, Policy, ScriptedPolicy
from gym_core.replay import verify
from gym_core.rollouts import Rollout, RolloutError, read_rollouts, write_rollouts
from gym_core.rubrics import Rubric
from gym_core.tasks import Task, jsonl
from gym_core.templates import ChatTemplate
from gym_core.token_policies import Sampled, TokenizedPolicy, TokenPolicy
from gym_core.tokens import TokenTrack
from gym_core.tools import Tool, tool

if TYPE_CHECKING:
    from gym_core.chat import ChatPolicy
    from gym_core.vllm import VLLMPolicy

__all__ = [
    "ChatPolicy",
    "ChatTemplate",
    "Completion",
    "Environment",
    "EnvironmentFactory",
    "EnvironmentSpecError",
    "Episode",
    "EpisodeError",
    "GymError",
    "Judge",
    "Message",
    "MissingDependencyError",
    "OutOfTokens",
    "Policy",
    "PolicyError",
    "Rollout",
    "RolloutError",
    "Rows",
    "Rubric",
    "Sampled",
    "Score",
    "ScriptedPolicy",
    "Task",
    "TaskError",
    "TemplateError",
    "TokenPolicy",
    "TokenTrack",
    "TokenizedPolicy",
    "Tool",
    "ToolCall",
    "ToolError",
    "ToolSchema",
    "VLLMPolicy",
    "Verdict",
    "assistant",
    "collect",
    "jsonl",
    "kto_rows",
    "last_reply",
    "load_environment",
    "mix",
    "open_episode",
    "preference_pairs",
    "read_rollouts",
    "rollout",
    "sft_rows",
    "system",
    "text",
    "tool",
    "tool_call",
    "user",
    "verify",
    "write_jsonl",
    "write_rollouts",
]


_LAZY = {"ChatPolicy": "gym_core.chat", "VLLMPolicy": "gym_core.vllm"}
"""Names whose modules bring a client that takes long to import, or that is not always installed."""


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
