"""Character tokenizers and models of a few thousand weights, made on the spot for tests of trainers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM


def char_tokenizer(
    special_tokens: Sequence[str], *, pad: str, eos: str, unk: str, chat_template: str
) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per printable ASCII character, after the special tokens."""
    characters = [*map(chr, range(32, 127)), "\n"]
    vocabulary = {token: position for position, token in enumerate([*special_tokens, *characters])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=unk))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=core,
        pad_token=pad,
        eos_token=eos,
        unk_token=unk,
        additional_special_tokens=[token for token in special_tokens if token not in (pad, eos, unk)],
        padding_side="left",
    )
    tokenizer.chat_template = chat_template
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
