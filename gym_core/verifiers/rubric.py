"""The rubric: weighted verifiers that give one score."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from gym_core.environments import Score

Verifier = Callable[[str, Any], float | Awaitable[float]]
"""A function of a completion and an answer, sync or async, or a partial of a function with more arguments."""


class Rubric:
    """Combines named verifiers into one score, behind gates that the completion must pass.

    The reward is the weighted mean of the verifiers, or 0.0 where a gate gives less than 1.0. Sync verifiers always
    run, for their components. Async ones, which ask a worker or a model, run only where all gates are passed, and then
    at the same time. An exception of a verifier is raised: half a rubric is not a score.

    Args:
        verifiers: Verifiers that make up the reward, by name.
        weights: Positive weight of each verifier; None weighs all equally.
        gates: Verifiers that must give 1.0 for any reward, by name; gates have no weight.

    Raises:
        ValueError: There is no verifier, a name is used twice, or the weights are not one positive number per verifier.

    Example:
        >>> rubric = Rubric({"correct": math_match, "style": judge}, weights={"correct": 0.8, "style": 0.2})
        >>> score = await rubric(rollout.last_reply, task.answer)
    """

    def __init__(
        self,
        verifiers: Mapping[str, Verifier],
        *,
        weights: Mapping[str, float] | None = None,
        gates: Mapping[str, Verifier] | None = None,
    ) -> None:
        self._verifiers, self._gates = dict(verifiers), dict(gates or {})
        self._weights = dict.fromkeys(self._verifiers, 1.0) if weights is None else dict(weights)
        if not self._verifiers:
            raise ValueError("a rubric must have one verifier or more, not none")
        if twice := self._verifiers.keys() & self._gates.keys():
            raise ValueError(f"a name of a rubric must be a verifier or a gate, not both: {', '.join(sorted(twice))}")
        if self._weights.keys() != self._verifiers.keys():
            wanted = ", ".join(self._verifiers)
            raise ValueError(f"the weights of a rubric must be for {wanted}, not for {', '.join(self._weights)}")
        for name, weight in self._weights.items():
            if not (isinstance(weight, int | float) and 0 < weight < math.inf):
                raise ValueError(f"the weight of {name!r} must be a positive number, not {weight!r}")

    async def __call__(self, completion: str, answer: Any) -> Score:
        """Judge a completion; the components of the score are the unweighted results of gates and verifiers.

        Raises:
            EpisodeError: A verifier gave something other than a finite number.
        """
        gates = await _components(self._gates, completion, answer)
        is_open = all(value == 1.0 for value in gates.values())
        components = gates | await _components(self._verifiers, completion, answer, only_sync=not is_open)
        if not is_open:
            return Score(0.0, components)
        weighted = math.fsum(weight * components[name] for name, weight in self._weights.items())
        return Score(weighted / math.fsum(self._weights.values()), components)


async def _components(
    verifiers: Mapping[str, Verifier], completion: str, answer: Any, *, only_sync: bool = False
) -> dict[str, float]:
    results: dict[str, Any] = {}
    try:
        for name, verifier in verifiers.items():
            results[name] = verifier(completion, answer)
        waiting = {name: result for name, result in results.items() if inspect.isawaitable(result)}
        skipped = waiting.keys() if only_sync else set()
        values = {} if only_sync else dict(zip(waiting, await _all_of(waiting.values()), strict=True))
    finally:
        for result in results.values():
            if inspect.iscoroutine(result):
                result.close()  # else Python warns of coroutines that were never awaited
    known = {name: values.get(name, result) for name, result in results.items() if name not in skipped}
    return Score(0.0, known).components  # Score checks that all of them are numbers


async def _all_of(waiting: Iterable[Awaitable[Any]]) -> list[Any]:
    """The results once all are done; the first failure cancels the others."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in waiting]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
