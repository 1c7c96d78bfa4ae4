"""Check or audit an environment, play it with a model behind an OpenAI-compatible server, or see what works here."""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from gym_core.audit import (
    Audit,
    Thresholds,
    as_line,
    as_text,
    audit_environment,
    check_environment,
    to_html,
    to_json,
)
from gym_core.cli.doctor import diagnose
from gym_core.collection import collect
from gym_core.driving import argument
from gym_core.environments import EnvironmentFactory, Rollout, load_environment, members, read_rollouts, write_rollouts
from gym_core.errors import GymError

_THRESHOLDS = {
    "max_junk": "highest mean reward of a policy that knows nothing, as a share of the mean gold reward",
    "min_gold": "lowest reward of a gold reply",
    "max_missed": "largest share of its reward that the gold answer may lose to white space or reasoning around it",
    "max_respelled": "largest share of its reward that the gold answer may lose to another spelling",
    "max_constant": "largest share of the tasks that may have the same answer",
    "max_length_correlation": "largest correlation between the rewards of random texts and their lengths",
    "max_unscored": "largest share of rollouts without a reward",
    "max_leaked": "largest share of tasks whose answer the policy is shown, marked as such",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 means success, 1 that problems were found, and 2 bad input."""
    args = _parser().parse_args(argv)
    sys.path.insert(0, os.getcwd())  # as `python -m` does, so that environments in this folder are found
    try:
        return int(args.run(args))
    except GymError as error:
        problem = str(error)
    except OSError as error:
        problem = f"{error.filename!r} can't be used: {error.strerror}" if error.filename else str(error)
    print(f"gym-core: {problem}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gym-core", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="find the worst faults of an environment in seconds, without a model")
    check.set_defaults(run=_check)
    auditing = commands.add_parser("audit", help="find out what an environment's reward pays for, without a model")
    auditing.set_defaults(run=_audit)
    auditing.add_argument("--json", type=Path, metavar="FILE", help="JSON file for all findings")
    auditing.add_argument("--html", type=Path, metavar="FILE", help="HTML page for all findings")
    auditing.add_argument(
        "--rollouts", type=Path, metavar="FILE", help="rollouts by `gym-core run`, to search for leaked answers as well"
    )
    limits = auditing.add_argument_group("thresholds", "limits beyond which a finding is a defect; see docs/audit.md")
    for name, default in asdict(Thresholds()).items():
        option, described = f"--{name.replace('_', '-')}", f"{_THRESHOLDS[name]} (default: %(default)s)"
        limits.add_argument(option, type=float, default=default, metavar="X", help=described)
    run = commands.add_parser("run", help="play tasks with a model and write the rollouts as JSONL")
    run.set_defaults(run=_run)
    _add_run_options(run)
    for command, limit in ((check, 8), (auditing, 16), (run, 8)):
        command.add_argument("environment", help="name of the environment, as package.module:name")
        command.add_argument(
            "--limit", type=_count, default=limit, help="number of tasks to play (default: %(default)s)"
        )
        command.add_argument(
            "--arg",
            type=argument,
            action="append",
            default=[],
            metavar="NAME=JSON",
            help="argument of the function that makes the environment; may be repeated",
        )
    doctor = commands.add_parser(
        "doctor", help="show what works on this machine, which extras are installed, and what conflicts"
    )
    doctor.set_defaults(run=lambda _: diagnose())
    return parser


def _add_run_options(run: argparse.ArgumentParser) -> None:
    run.add_argument("--model", required=True, help="name of the model on the server")
    run.add_argument("--base-url", help="URL of the server (default: $OPENAI_BASE_URL, or else OpenAI's own)")
    run.add_argument("--output", default="rollouts.jsonl", help="file to append the rollouts to (default: %(default)s)")
    run.add_argument("--samples", type=_count, default=1, help="number of rollouts per task (default: %(default)s)")
    run.add_argument(
        "--concurrency", type=_count, default=64, help="number of episodes at a time (default: %(default)s)"
    )
    run.add_argument(
        "--max-retries", type=int, default=4, help="number of retries per failed request (default: %(default)s)"
    )
    run.add_argument("--temperature", type=float, default=1.0, help="sampling temperature (default: %(default)s)")


def _count(text: str) -> int:
    """The value of an option that counts something.

    Raises:
        ArgumentTypeError: The text is not a whole number of 1 or more.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, not {text!r}")
    return int(text)


def _environment(args: argparse.Namespace) -> EnvironmentFactory:
    return load_environment(args.environment, **dict(args.arg))


def _check(args: argparse.Namespace) -> int:
    audits = asyncio.run(_report(_environment(args), functools.partial(check_environment, limit=args.limit)))
    return int(any(audit.defects for audit in audits))


def _audit(args: argparse.Namespace) -> int:
    played = list(read_rollouts(args.rollouts)) if args.rollouts else []

    async def audit(env: EnvironmentFactory, progress: Callable[[str], None]) -> Audit:
        return await audit_environment(
            env,
            limit=args.limit,
            thresholds=Thresholds(**{name: getattr(args, name) for name in _THRESHOLDS}),
            rollouts=[rollout for rollout in played if rollout.task.environment in ("", env.name)],
            made_by=(args.environment, dict(args.arg)),
            progress=progress,
        )

    audits = asyncio.run(_report(_environment(args), audit))
    for path, report in ((args.json, to_json), (args.html, to_html)):
        if path:
            path.write_text(report(audits), encoding="utf-8", errors="backslashreplace")
    return int(any(audit.defects for audit in audits))


async def _report(env: EnvironmentFactory, audit: Callable[..., Awaitable[Audit]]) -> list[Audit]:
    """Audit an environment, or each member of a mix, and print what was found as soon as it is known."""
    environments = members(env)
    audits: list[Audit] = []
    for number, member in enumerate(environments.values(), start=1):
        progress = functools.partial(_progress, f"[{number}/{len(environments)}]")
        audits.append(await audit(member, progress=progress))
        print(as_text(audits[-1]) if len(environments) == 1 else as_line(audits[-1]), flush=True)
    return audits


def _progress(done: str, text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{done} {text}", end="\r", file=sys.stderr, flush=True)


def _run(args: argparse.Namespace) -> int:
    return asyncio.run(_collect(_environment(args), args))


async def _collect(env: EnvironmentFactory, args: argparse.Namespace) -> int:
    from gym_core.policies import ChatPolicy  # takes a second to import, so only where a model is asked

    tasks = list(islice(env.tasks, args.limit))
    rollouts: list[Rollout] = []
    sampling = {"temperature": args.temperature}
    server = {"base_url": args.base_url, "max_retries": args.max_retries}
    async with ChatPolicy(args.model, **server, sampling=sampling) as policy:
        async for rollout in collect(env, policy, tasks=tasks, samples=args.samples, concurrency=args.concurrency):
            write_rollouts(args.output, [rollout])
            rollouts.append(rollout)
            print(f"\r{_summary(rollouts)} of {len(tasks) * args.samples}", end="", file=sys.stderr)
    print(f"\r{_summary(rollouts)}, written to {args.output}", file=sys.stderr)
    errors = Counter(f"{rollout.error.kind}: {rollout.error.message}" for rollout in rollouts if rollout.error)
    for error, count in errors.most_common(3):
        print(f"  {count} with {error}", file=sys.stderr)
    return int(any(rollout.reward is None for rollout in rollouts))


def _summary(rollouts: Sequence[Rollout]) -> str:
    rewards = [rollout.reward for rollout in rollouts if rollout.reward is not None]
    mean = f"mean reward {sum(rewards) / len(rewards):.3f}" if rewards else "no reward yet"
    return f"{mean}, {len(rollouts) - len(rewards)} unscored, {len(rollouts)} rollouts"
