"""The verifier of likeness: how little has to change to turn one text into another."""

from gym_core.errors import MissingDependencyError


def similarity(completion: str, answer: str) -> float:
    """Scores how alike two texts are, from 0.0 to 1.0: the normalised Indel similarity of their characters.

    It is 1 - d / (m + n), where m and n are the lengths and d is the smallest number of insertions and deletions of
    characters that turns one text into the other; in other words, twice the length of the longest common subsequence
    over m + n. It compares spellings, not meanings, and a completion that contains the answer scores less the longer it
    is. Both texts are stripped.

    Args:
        completion: Text that the policy wrote.
        answer: Expected text.

    Raises:
        TypeError: The answer is not a string.
        ValueError: The answer is blank, so the empty completion would score.
        MissingDependencyError: rapidfuzz is not installed.
    """
    if not isinstance(answer, str):
        raise TypeError(f"a similarity answer must be a string, not {answer!r}")
    if not answer.strip():
        raise ValueError(f"a similarity answer must not be blank, got {answer!r}")
    try:
        from rapidfuzz.distance import Indel  # optional
    except ImportError as error:
        raise MissingDependencyError("similarity") from error
    return float(Indel.normalized_similarity(completion.strip(), answer.strip()))
