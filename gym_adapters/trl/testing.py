"""A tokenizer and models made on the spot, to run TRL's trainers without downloads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gym_core import MissingDependencyError

try:
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
except ImportError as error:
    raise MissingDependencyError("trl") from error

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
"""Shows roles, contents and calls, but no tool schemas: a model of this size has to be taught the calls.

What the model writes is marked as `generation`, so that supervised training can tell it from the rest.
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
    """A tokenizer of one token a printable ASCII character, whose chat template has tool calls."""
    characters = [*map(chr, range(32, 127)), "\n"]
    vocabulary = {token: position for position, token in enumerate([*SPECIAL_TOKENS, *characters])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=list(SPECIAL_TOKENS[3:]),
        padding_side="left",
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.response_template = RESPONSE_TEMPLATE
    return tokenizer


def tiny_model(tokenizer: PreTrainedTokenizerFast, *, hidden_size: int = 64, seed: int = 0) -> Qwen3ForCausalLM:
    """A random two-layer Qwen3 for a tokenizer: 89 thousand parameters at a hidden size of 64."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=hidden_size // 4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen3ForCausalLM(config)


def script(model: Any, tokenizer: PreTrainedTokenizerFast, reply: Callable[[str], str]) -> None:
    """Make a model say what a function of the conversation's text so far says, by way of its `generate`.

    Args:
        model: Its `generate` is replaced.
        tokenizer: The model's.
        reply: Is given the decoded tokens, special ones included; its text should end with "<eos>".
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
