"""Scores: reasoning-gym's verdict on a reply; runs in a child process, since its scorers can hang."""

from __future__ import annotations

import functools
import json
from typing import Any

from reasoning_gym.dataset import ProceduralDataset
from reasoning_gym.factory import DATASETS, create_dataset
from reasoning_gym.utils import extract_answer

from gym_adapters.reasoning_gym.grammar import EVALUATED
from gym_adapters.reasoning_gym.rows import from_json


def score(reply: str, row: dict[str, Any]) -> dict[str, float]:
    """The reward of a reply, with the components `format`, `unreadable` and `hung` (see `Question.verify`).

    Args:
        reply: Text that the model wrote.
        row: The `info` of a task.

    Raises:
        Exception: The scorer fails on the right answer too, so it or the row is broken.
    """
    name, answer, entry = row["dataset"], extract_answer(reply), from_json(row["entry"])
    if answer is None:
        return _scored(0.0, format=0.0)
    if name == "game_of_life_halting":  # upstream gives 1.0 to any text, as bool("False") is True
        return _scored(float(answer.lower() == entry["answer"].lower()))
    if name == "complex_arithmetic" and "nan" in answer.replace(" ", "").lower():
        return _scored(0.0, unreadable=1.0)  # upstream gives 1.0, as min(1.0, nan) is 1.0
    dataset = scorer(name, json.dumps(row["config"], sort_keys=True))
    verdict = EVALUATED[name](answer, entry) if name in EVALUATED else "readable"
    match verdict:
        case "refused":
            return _scored(0.0, unreadable=1.0)
        case "huge":
            return _scored(0.0, hung=1.0)
        case "unreadable":  # it earns what the scorer gives an unreadable text
            return _scored(dataset.score_answer("", entry), unreadable=1.0)
    try:
        return _scored(dataset.score_answer(answer, entry))
    except MemoryError:
        raise
    except (Exception, SystemExit):  # such as int("I do not know")
        if entry["answer"] is not None:
            dataset.score_answer(entry["answer"], entry)
        return _scored(0.0, unreadable=1.0)


def plain_score(reply: str, row: dict[str, Any]) -> float:
    """The library's own score of a reply, in its documented way: `extract_answer`, then `score_answer`.

    Args:
        reply: Text that the model wrote.
        row: The `info` of a task.

    Raises:
        Exception: Any exception of the scorer.
    """
    entry = json.loads(json.dumps(from_json(row["entry"])))
    score_answer = scorer(row["dataset"], json.dumps(row["config"], sort_keys=True)).score_answer
    return float(score_answer(extract_answer(reply), entry))


@functools.lru_cache(maxsize=128)
def scorer(name: str, config: str) -> ProceduralDataset:
    """The dataset that scores.

    Making one takes up to 0.4 s and is done once per worker. A fresh process per answer can't keep one, so there the
    dataset has only its config: `n_queens` would list all boards, which its scorer does not use.

    Args:
        name: Name of the dataset.
        config: Config of the dataset as JSON text.
    """
    if name not in EVALUATED:
        return create_dataset(name, **from_json(json.loads(config)))
    dataset_class, config_class = DATASETS[name]
    dataset = dataset_class.__new__(dataset_class)
    dataset.config = config_class(**from_json(json.loads(config)))
    return dataset


def _scored(reward: float, *, format: float = 1.0, unreadable: float = 0.0, hung: float = 0.0) -> dict[str, float]:
    reward = min(1.0, max(0.0, float(reward)))
    return {"reward": reward, "format": format, "unreadable": unreadable, "hung": hung}
