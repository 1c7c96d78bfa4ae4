"""Token tracks: the policy is trained on the tokens it sampled, one for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class TokenTrack:
    """The tokens of one rollout.

    Attributes:
        prompt_ids: The opening as the chat template renders it.
        completion_ids: All tokens after it: sampled turns, and between them the environment's messages.
        mask: One number per completion token: 1 if the policy sampled it, 0 otherwise.
        logprobs: One number per completion token: the engine's if it was sampled, 0.0 otherwise.
        broken: Reason why the engine saw other tokens, or None. A broken track must not be trained on.
    """

    prompt_ids: list[int] = field(default_factory=list)
    completion_ids: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    broken: str | None = None

    @property
    def ids(self) -> list[int]:
        """Prompt and completion: the tokens that the engine gets next."""
        return self.prompt_ids + self.completion_ids

    def append(self, ids: Sequence[int]) -> None:
        """Append tokens of the environment or the template."""
        self.completion_ids += ids
        self.mask += [0] * len(ids)
        self.logprobs += [0.0] * len(ids)

    def sample(
        self, ids: Sequence[int], logprobs: Sequence[float] | None = None, *, given: Sequence[int] | None = None
    ) -> None:
        """Append tokens that the policy sampled.

        Args:
            ids: Sampled tokens.
            logprobs: One number per token; None if the engine gives none, which leaves 0.0.
            given: Tokens that the engine says it continued; if they differ from ours, the track is broken.
        """
        if given is not None and list(given) != self.ids:
            self._break(f"the engine continued {len(given)} tokens that are not the {len(self.ids)} it was sent")
        if logprobs is not None and len(logprobs) != len(ids):
            self._break(f"the engine gave {len(logprobs)} log-probabilities for {len(ids)} tokens")
            logprobs = None
        self.completion_ids += ids
        self.mask += [1] * len(ids)
        self.logprobs += [0.0] * len(ids) if logprobs is None else logprobs

    def _break(self, why: str) -> None:
        self.broken = self.broken or why
