"""Refusals: the meaning of a server's answers with a status other than 200."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from contextlib import suppress

from gym_core.errors import OutOfTokens, PolicyError

LONGEST_WAIT_S = 60.0
"""The most seconds that a server's Retry-After can ask for."""

_FULL_CONTEXT = re.compile(
    r"context_length_exceeded|exceed_context_size|"  # OpenAI and Azure; llama.cpp
    r"maximum (?:model|prompt|context|input) length|"  # OpenAI, vLLM, xAI, Fireworks, TensorRT-LLM
    r"context (?:length|size|window)|"  # SGLang, llama.cpp, Ollama, Mistral
    r"(?:prompt|input|request)\b[^.]{0,40} too long|"  # Anthropic, Bedrock
    r"input token count[^.]{0,40} exceeds|"  # Gemini
    r"max_new_tokens` must be|`inputs` must have less|"  # TGI
    r"range of input length|reduce the length of the messages",  # DashScope; Groq
    re.IGNORECASE,
)
_REFUSED_AS_TOO_LONG = (400, 413, 422)


class Failed(Exception):
    """A failed attempt that is worth repeating, perhaps after the seconds that the server asks for."""

    def __init__(self, why: str, retry_after_s: float | None = None) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


def refusal(status: int, said: str, url: str, retry_after_s: float | None = None) -> Exception:
    """The exception for a status other than 200: `Failed` if another attempt may help."""
    if status in (408, 409, 429) or status >= 500:
        return Failed(said, retry_after_s)
    if status in _REFUSED_AS_TOO_LONG and _FULL_CONTEXT.search(said):
        return OutOfTokens(said)
    return PolicyError(f"{url} refused the request: {said}")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds until the next attempt by RFC 9110, section 10.2.3, or OpenAI's `retry-after-ms`; None if neither."""
    with suppress(ValueError):
        wait_s = float(headers["retry-after-ms"]) / 1000 if "retry-after-ms" in headers else None
        if wait_s is None and (text := headers.get("Retry-After")):
            is_number = text.replace(".", "", 1).isdecimal()
            wait_s = float(text) if is_number else email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        if wait_s is not None:
            return min(max(wait_s, 0.0), LONGEST_WAIT_S)
    return None
