"""Command lines of the GPU benchmarks."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import torch


def parser(
    description: str | None, environments: Iterable[str], *, steps: int, output_dir: str
) -> argparse.ArgumentParser:
    """A parser with the options that all of them take."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--environment", choices=environments, default="addition")
    made.add_argument("--cpu", action="store_true", help="try the script out without a GPU")
    made.add_argument("--steps", type=int, default=steps)
    made.add_argument("--rollouts", type=int, help="rollouts per step (default: 128, on a CPU 16)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--date", default=date.today().isoformat(), help="date of the run (default: today)")
    made.add_argument("--output-dir", type=Path, default=Path(output_dir))
    return made


def parse(made: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the options, and refuse those that can't work here."""
    options = made.parse_args()
    if getattr(options, "vllm", False) and (options.cpu or find_spec("vllm") is None):
        made.error("--vllm needs a GPU and the package vllm")
    if not options.cpu and not torch.cuda.is_available():
        made.error("there is no CUDA device; --cpu tries the script out without one")
    options.rollouts = options.rollouts or (16 if options.cpu else 128)
    return options
