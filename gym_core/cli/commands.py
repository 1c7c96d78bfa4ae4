"""The command `gym-core`: check or audit an environment, or play it with a model behind an OpenAI-compatible server."""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

from gym_core.audit import Audit, Thresholds, audit
from gym_core.audit.check import check_environment
from gym_core.audit.report import as_line, as_text, to_html, to_json
from gym_core.collection import collect
from gym_core.environments import EnvironmentFactory, Rollout, load_environment, members, read_rollouts, write_rollouts
from gym_core.errors import GymError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 is success, 1 is problems found, 2 is bad input."""
    args = _parser().parse_args(argv)
    sys.path.insert(0, os.getcwd())  # as `python -m` does, so that examples.meetings:Calendar is found
    try:
        env = load_environment(args.environment, **dict(args.arg))
        return int(asyncio.run(args.run(env, args)))
    except (GymError, OSError) as error:
        print(f"gym-core: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gym-core", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="find what is wrong with an environment; needs no model")
    check.set_defaults(run=_check)
    auditing = commands.add_parser("audit", help="find out whether the reward means what you think; needs no model")
    auditing.set_defaults(run=_audit)
    auditing.add_argument("--json", type=Path, metavar="FILE", help="write all that was found")
    auditing.add_argument("--html", type=Path, metavar="FILE", help="write a page to read")
    auditing.add_argument("--rollouts", type=Path, metavar="FILE", help="of `run`, in which leaks are searched too")
    limits = auditing.add_argument_group("thresholds", "what makes a finding a defect, explained in docs/audit.md")
    for field in fields(Thresholds):
        option = f"--{field.name.replace('_', '-')}"
        limits.add_argument(option, type=float, default=field.default, metavar="X", help="(default: %(default)s)")
    run = commands.add_parser("run", help="play tasks and write the rollouts as JSONL")
    run.set_defaults(run=_run)
    run.add_argument("--model", required=True, help="name of the model on the server")
    run.add_argument("--base-url", help="the server's; the default is OPENAI_BASE_URL, then OpenAI itself")
    run.add_argument("--output", default="rollouts.jsonl", help="is appended to (default: %(default)s)")
    run.add_argument("--samples", type=int, default=1, help="rollouts of each task (default: %(default)s)")
    run.add_argument("--concurrency", type=int, default=64, help="episodes at a time (default: %(default)s)")
    run.add_argument("--max-retries", type=int, default=4, help="of a request (default: %(default)s)")
    run.add_argument("--temperature", type=float, default=1.0, help="of sampling (default: %(default)s)")
    for command, limit in ((check, 8), (auditing, 16), (run, 8)):
        command.add_argument("environment", help="package.module:name")
        command.add_argument("--limit", type=int, default=limit, help="tasks that are played (default: %(default)s)")
        command.add_argument(
            "--arg", type=argument, action="append", default=[], metavar="NAME=JSON", help="for an environment factory"
        )
    return parser


def argument(text: str) -> tuple[str, Any]:
    """The name and the value of an option `--arg NAME=JSON`; a value that is no JSON is text.

    Raises:
        ArgumentTypeError: There is no "=".
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=JSON, not {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


async def _check(env: EnvironmentFactory, args: argparse.Namespace) -> int:
    problems = await check_environment(env, limit=args.limit)
    print("\n".join(problems) if problems else f"{env.name}: no problem found in {args.limit} tasks")
    return int(bool(problems))


async def _audit(env: EnvironmentFactory, args: argparse.Namespace) -> int:
    thresholds = Thresholds(**{field.name: getattr(args, field.name) for field in fields(Thresholds)})
    played = list(read_rollouts(args.rollouts)) if args.rollouts else []
    audits: list[Audit] = []
    environments = members(env)
    for number, (name, member) in enumerate(environments.items(), start=1):
        audited = await audit(
            member,
            limit=args.limit,
            thresholds=thresholds,
            rollouts=[rollout for rollout in played if rollout.task.environment in ("", name)],
            made_by=(args.environment, dict(args.arg)),
            progress=functools.partial(_progress, f"[{number}/{len(environments)}]"),
        )
        print(as_text(audited) if len(environments) == 1 else as_line(audited), flush=True)
        audits.append(audited)
    for path, report in ((args.json, to_json), (args.html, to_html)):
        if path:
            path.write_text(report(audits), encoding="utf-8", errors="backslashreplace")
    return int(any(audited.defects for audited in audits))


def _progress(done: str, text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{done} {text}", end="\r", file=sys.stderr, flush=True)


async def _run(env: EnvironmentFactory, args: argparse.Namespace) -> int:
    from gym_core.policies import ChatPolicy  # a second: only where a model is asked

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
    return int(any(rollout.reward is None for rollout in rollouts))


def _summary(rollouts: Sequence[Rollout]) -> str:
    rewards = [rollout.reward for rollout in rollouts if rollout.reward is not None]
    mean = f"mean reward {sum(rewards) / len(rewards):.3f}" if rewards else "no reward yet"
    return f"{mean}, {len(rollouts) - len(rewards)} unscored, {len(rollouts)} rollouts"
