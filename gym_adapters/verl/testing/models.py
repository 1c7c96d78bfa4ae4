"""A tokenizer and a model that train in seconds, with the chat template and the tool calls of Qwen."""

from __future__ import annotations

from pathlib import Path

from gym_core import MissingDependencyError

try:
    from tokenizers import AddedToken
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from gym_adapters import tiny_models
    from gym_adapters.tiny_models import tiny_model
except ImportError as error:
    raise MissingDependencyError("verl") from error

__all__ = ["char_tokenizer", "save_model", "tiny_model"]

SPECIAL_TOKENS = ("<|endoftext|>", "<unk>", "<|im_start|>", "<|im_end|>")
CALL_TOKENS = ("<tool_call>", "</tool_call>")
"""Added tokens that, as in Qwen, are not special: a decoded reply keeps them."""

CHAT_TEMPLATE = """\
{%- for message in messages -%}
    {{- '<|im_start|>' ~ message.role ~ '\\n' -}}
    {%- if message.role == 'assistant' -%}
        {%- generation -%}
        {{- message.content or '' -}}
        {%- for call in message.tool_calls or [] -%}
            {{- '<tool_call>\\n{"name": "' ~ call.function.name ~ '", "arguments": ' -}}
            {{- (call.function.arguments | tojson) ~ '}\\n</tool_call>' -}}
        {%- endfor -%}
        {{- '<|im_end|>' -}}
        {%- endgeneration -%}
        {{- '\\n' -}}
    {%- else -%}
        {{- message.content ~ '<|im_end|>\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
"""A template that shows roles, contents and calls, but no tool schemas: so small a model must be taught the calls.

The model's own text is marked as `generation`, so that supervised training can tell it from the rest.
"""


def char_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of one token per printable ASCII character, whose chat template has tool calls."""
    tokenizer = tiny_models.char_tokenizer(
        SPECIAL_TOKENS, pad="<|endoftext|>", eos="<|im_end|>", unk="<unk>", chat_template=CHAT_TEMPLATE
    )
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in CALL_TOKENS])
    return tokenizer


def save_model(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write a model to a folder for `actor_rollout_ref.model.path`."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
