"""Rows of training data, and their card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

_BINS = 10


class Rows(list[dict[str, Any]]):
    """Rows of training data, and where they come from.

    Args:
        rows: Rows, all with the same columns.
        training: Instructions for setting up a trainer so that the loss falls on the assistant's messages only.
        rewards: Rewards of the rollouts that were used.
        dropped: Number of rollouts that were left out, by reason.
    """

    def __init__(
        self, rows: Iterable[dict[str, Any]], *, training: str, rewards: Sequence[float], dropped: Mapping[str, int]
    ) -> None:
        super().__init__(rows)
        self.training = training
        self.rewards = rewards
        self.dropped = dropped

    @property
    def card(self) -> str:
        """A description of the rows in Markdown."""
        columns = f" of {', '.join(f'`{column}`' for column in self[0])}" if self else ""
        total = len(self.rewards) + sum(self.dropped.values())
        paragraphs = [f"{len(self)} rows{columns}, from {len(self.rewards)} of {total} rollouts.", self.training]
        if self.rewards:
            paragraphs.append(_table("reward", _histogram(self.rewards)))
        if self.dropped:
            paragraphs.append(_table("left out because", self.dropped))
        return "\n\n".join(paragraphs)


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows to a JSONL file, and the card of `Rows` next to it, to the Markdown file of the same name.

    Existing files are replaced. Rows that were filtered or joined are plain lists without a card.
    """
    path = Path(path)
    if isinstance(rows, Rows):
        path.with_suffix(".md").write_text(f"# {path.name}\n\n{rows.card}\n", encoding="utf-8")
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _histogram(rewards: Sequence[float]) -> dict[str, int]:
    """Counts of the rewards themselves if they are few, otherwise of ten ranges of equal width."""
    counts = Counter(rewards)
    if len(counts) <= _BINS:
        return {f"{reward:g}": counts[reward] for reward in sorted(counts)}
    low, high = min(rewards), max(rewards)
    bins = Counter(min(int((reward - low) / (high - low) * _BINS), _BINS - 1) for reward in rewards)
    edges = [low + (high - low) * i / _BINS for i in range(_BINS + 1)]
    return {f"{start:.3g} to {end:.3g}": bins[i] for i, (start, end) in enumerate(pairwise(edges))}


def _table(name: str, counts: Mapping[str, int]) -> str:
    return "\n".join([f"| {name} | rollouts |", "|---|---|", *(f"| {key} | {n} |" for key, n in counts.items())])
