"""Rollouts as training data: rows for supervised, preference and KTO trainers."""

from gym_core.export.preferences import kto_rows, preference_pairs
from gym_core.export.rows import Rows, write_jsonl
from gym_core.export.sft import sft_rows

__all__ = ["Rows", "kto_rows", "preference_pairs", "sft_rows", "write_jsonl"]
