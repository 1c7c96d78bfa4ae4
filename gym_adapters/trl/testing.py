"""A tokenizer and models made on the spot, with which TRL's trainers run without downloads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gym_core import MissingDependencyError

try:
    import torch
    from transformers import PreTrainedTokenizerFast

    from gym_adapters import tiny_models
    from gym_adapters.tiny_models import tiny_model
except ImportError as error:
    raise MissingDependencyError("trl") from error

__all__ = ["char_tokenizer", "script", "tiny_model"]

SPECIAL_TOKENS = ("<pad>", "<eos>", "<unk>", "<system>", "<user>", "<assistant>", "<tool>", "<call>", "</call>")

CHAT_TEMPLATE = """\
{%- for message in messages -%}
    {{- '<' ~ message.role ~ '>' -}}
    {%- if message.role == 'assistant' -%}
        {%- generation -%}
        {{- message.content or '' -}}
        {%- for call in message.tool_calls or [] -%}
            {{- '<call>' ~ call.function.name ~ ' ' ~ (call.function.arguments | tojson) ~ '</call>' -}}
        {%- endfor -%}
        {{- '<eos>' -}}
        {%- endgeneration -%}
    {%- else -%}
        {{- message.content -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<assistant>' -}}{%- endif -%}
"""
"""A template that shows roles, contents and calls, but no tool schemas: so small a model must be taught the calls.

The model's own text is marked as `generation`, so that supervised training can tell it from the rest.
"""

RESPONSE_TEMPLATE: dict[str, Any] = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<assistant>",
    "fields": {
        "tool_calls": {
            "open_pattern": r"<call>(?P<name>[\w.-]+) ",
            "close_pattern": r"</call>\s*",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
        },
        "content": {"close_pattern": r"<eos>|$", "content": "text"},
    },
}


def char_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of one token per printable ASCII character, whose chat template has tool calls."""
    tokenizer = tiny_models.char_tokenizer(
        SPECIAL_TOKENS, pad="<pad>", eos="<eos>", unk="<unk>", chat_template=CHAT_TEMPLATE
    )
    tokenizer.response_template = RESPONSE_TEMPLATE
    return tokenizer


def script(model: Any, tokenizer: PreTrainedTokenizerFast, reply: Callable[[str], str]) -> None:
    """Replace a model's `generate`, so that a function of the conversation so far decides what it says.

    Args:
        model: Model whose `generate` is replaced.
        tokenizer: Tokenizer of the model.
        reply: Function of the decoded tokens, special ones included; its text should end with "<eos>".
    """

    def generate(input_ids: torch.Tensor, attention_mask: Any = None, **_: Any) -> torch.Tensor:
        masks = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        said = [
            tokenizer(reply(str(tokenizer.decode(ids[mask.bool()]))))["input_ids"]
            for ids, mask in zip(input_ids, masks, strict=True)
        ]
        return torch.cat([input_ids, _padded(said, tokenizer.pad_token_id)], dim=1)

    model.generate = generate


def _padded(rows: Sequence[list[int]], pad: int) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [pad] * (width - len(row)) for row in rows])
