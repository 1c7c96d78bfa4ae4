"""A model of 89 thousand parameters, made on the spot, for `--smoke`."""

from gym_adapters.trl.testing import char_tokenizer, tiny_model


def save_tiny_model(folder: str = "outputs/unsloth/tiny") -> str:
    """Save a random model with its tokenizer, whose chat template has tool calls; returns the folder."""
    tokenizer = char_tokenizer()
    tokenizer.save_pretrained(folder)
    model = tiny_model(tokenizer)
    model.model.embed_tokens.weight.data *= 10  # they are tied, and so small that no LoRA could make one token likely
    model.save_pretrained(folder)
    return folder
