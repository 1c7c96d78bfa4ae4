"""Write a tiny model with random weights: `python -m gym_adapters.verl.testing outputs/tiny_model`."""

import argparse
from pathlib import Path

from gym_adapters.verl.testing.models import char_tokenizer, save_model, tiny_model


def main() -> None:
    """Write the model, and print where it is."""
    parser = argparse.ArgumentParser(prog="python -m gym_adapters.verl.testing", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tokenizer = char_tokenizer()
    model = tiny_model(tokenizer, seed=options.seed)
    save_model(options.folder, model, tokenizer)
    print(f"a model of {model.num_parameters():,} random parameters is in {options.folder}")


if __name__ == "__main__":
    main()
