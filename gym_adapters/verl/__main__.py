"""The commands of the veRL adapter: `python -m gym_adapters.verl data|overrides|doctor`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gym_adapters.verl.data import write_data
from gym_adapters.verl.entries import overrides
from gym_adapters.verl.rows import Source
from gym_core import GymError
from gym_core.driving import argument


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 is success, 1 is problems found, 2 is bad input."""
    args = _parser().parse_args(argv)
    sys.path.insert(0, os.getcwd())  # so that examples.meetings:Calendar is found
    try:
        return int(args.run(args))
    except GymError as error:
        print(f"gym_adapters.verl: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gym_adapters.verl", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    data = commands.add_parser("data", help="write the tasks of environments as files for data.train_files")
    data.set_defaults(run=_data)
    data.add_argument("--train", type=int, required=True, help="number of tasks of each environment for training")
    data.add_argument("--val", type=int, required=True, help="number of tasks of each environment for validation")
    data.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for train.jsonl and val.jsonl")
    data.add_argument("--parquet", action="store_true", help="write parquet files instead of JSONL")
    data.add_argument(
        "--components", nargs="+", default=[], metavar="NAME", help="components that an empty reply does not show"
    )
    entries = commands.add_parser("overrides", help="print the arguments of verl.trainer.main_ppo for environments")
    entries.set_defaults(run=_overrides)
    entries.add_argument("--data", type=Path, default=Path("data"), metavar="DIR", help="folder that `data` wrote")
    for command in (data, entries):
        command.add_argument("environments", nargs="+", metavar="ENV", help="package.module:name")
        command.add_argument("--arg", type=argument, action="append", default=[], metavar="NAME=JSON", help=_ARG_HELP)
    doctor = commands.add_parser("doctor", help="find what would go wrong in a run, without training")
    doctor.set_defaults(run=_doctor)
    doctor.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="arguments of verl.trainer.main_ppo")
    return parser


_ARG_HELP = "argument for an ENV that is a function"


def _data(args: argparse.Namespace) -> int:
    sources = [Source(name, dict(args.arg), args.components) for name in args.environments]
    files = write_data(sources, args.out, train=args.train, val=args.val, parquet=args.parquet)
    print("\n".join(map(str, files)))
    return 0


def _overrides(args: argparse.Namespace) -> int:
    print("\n".join(overrides([Source(name, dict(args.arg)) for name in args.environments], args.data)))
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from gym_adapters.verl.doctor import examine  # loads all of verl

    found = examine(args.overrides)
    print("\n".join(found) if found else "\nno problem found")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
