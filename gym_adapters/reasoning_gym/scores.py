"""Scores: what reasoning-gym gives a reply; runs in a child process, since its scorers evaluate what a model wrote."""

from __future__ import annotations

import functools
import json
from typing import Any

from reasoning_gym.dataset import ProceduralDataset
from reasoning_gym.factory import create_dataset
from reasoning_gym.utils import extract_answer

from gym_adapters.reasoning_gym.rows import from_json


def score(reply: str, row: dict[str, Any]) -> dict[str, float]:
    """The reward of a reply, with the parts `format` and `unreadable` (see `Question.verify`).

    Args:
        reply: What the model wrote.
        row: The `info` of a task.

    Raises:
        Exception: The scorer fails on the right answer too, so that it or the row is broken.
    """
    answer, entry = extract_answer(reply), from_json(row["entry"])
    if answer is None:
        return {"reward": 0.0, "format": 0.0, "unreadable": 0.0}
    if row["dataset"] == "game_of_life_halting":  # upstream gives 1.0 to any text, as bool("False") is True
        return {"reward": float(answer.lower() == entry["answer"].lower()), "format": 1.0, "unreadable": 0.0}
    dataset = _dataset(row["dataset"], json.dumps(row["config"], sort_keys=True))
    try:
        reward = float(dataset.score_answer(answer, entry))
    except MemoryError:
        raise
    except (Exception, SystemExit):  # int("I do not know"), or whatever the text evaluated to
        if entry["answer"] is not None:
            dataset.score_answer(entry["answer"], entry)
        return {"reward": 0.0, "format": 1.0, "unreadable": 1.0}
    return {"reward": min(1.0, max(0.0, reward)), "format": 1.0, "unreadable": 0.0}


@functools.lru_cache(maxsize=128)
def _dataset(name: str, config: str) -> ProceduralDataset:
    """The dataset that scores; making one takes up to 0.4 s."""
    return create_dataset(name, **from_json(json.loads(config)))
