"""Environments and verifiers for reinforcement learning of language models."""

import importlib
from typing import TYPE_CHECKING

from gym_core.collection import collect
from gym_core.environments import (
    Environment,
    EnvironmentFactory,
    Rollout,
    RolloutError,
    Score,
    Task,
    Tool,
    jsonl,
    load_environment,
    mix,
    read_rollouts,
    tool,
    write_rollouts,
)
from gym_core.episodes import Episode, open_episode, rollout, verify
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
from gym_core.messages import Message, ToolCall, ToolSchema, assistant, last_reply, system, text, tool_call, user
from gym_core.policies import Completion, Policy, Sampled, ScriptedPolicy, TokenizedPolicy, TokenPolicy
from gym_core.processes import in_processes
from gym_core.tokens import ChatTemplate, TokenTrack
from gym_core.verifiers import Judge, Rubric, Verdict

if TYPE_CHECKING:
    from gym_core.policies import ChatPolicy, VLLMPolicy

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
    "in_processes",
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


_LAZY = ("ChatPolicy", "VLLMPolicy")
"""Names whose modules import a client that loads slowly, or that may not be installed."""


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module("gym_core.policies"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
