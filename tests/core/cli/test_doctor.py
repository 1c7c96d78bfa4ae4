"""What the doctor says of this machine, of one that forbids isolation, and of packages that conflict."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gym_core.cli import main
from gym_core.cli.extras import find_conflicts, find_extras
from gym_core.cli.machine import namespace_causes

ROOT = Path(__file__).parents[3]
DOCTOR = [sys.executable, "-m", "gym_core.cli", "doctor"]
UNSHARE = ["unshare", "--user", "--map-root-user"]


def facts(output: str) -> dict[str, str]:
    table, _, _ = output.partition("\n\n")
    return {line[2:].split("  ")[0]: line[2:].split("  ", 1)[1].strip() for line in table.splitlines()}


def test_the_doctor_reports_what_works_here(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor"])
    output = capsys.readouterr().out
    found = facts(output)
    assert found["child processes"].startswith("work, ")
    assert (found["namespaces"] == "work") is (found["sandbox"] == "isolates by namespaces")
    assert {"system", "Python", "processors", "cgroups", "bubblewrap", "sandbox", "Docker"} < found.keys()
    assert status == int("none found" not in output)


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0,
    reason="needs user namespaces, to forbid more of them inside one",
)
def test_the_doctor_says_which_setting_forbids_namespaces() -> None:
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    ran = subprocess.run(
        [*UNSHARE, "sh", "-c", forbid, "sh", *DOCTOR],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    found = facts(ran.stdout)
    assert found["namespaces"].startswith("no: ")
    assert found["namespaces"].endswith("(the sysctl user.max_user_namespaces is 0)")
    assert found["child processes"] == "work, forked from a zygote"


WITHOUT = """
import os, signal, socket, sys
modules, names = sys.argv[1].split(), sys.argv[2].split()
sys.modules.update(dict.fromkeys(modules))
for module in (os, signal, socket):
    for name in names:
        vars(module).pop(name, None)
from gym_core.cli import main
os.name = sys.argv[3]
sys.exit(main(["doctor"]))
"""
MACOS = ("", "pidfd_open memfd_create SOCK_SEQPACKET sched_getaffinity", "posix")
WINDOWS = (
    "fcntl resource pwd grp",
    "fork pidfd_open memfd_create SOCK_SEQPACKET send_fds recv_fds sched_getaffinity killpg geteuid wait4 SIGXCPU",
    "not posix",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lacking", "child_processes"),
    [
        (MACOS, "work, started one by one, since this system lacks pidfd_open, "),
        (WINDOWS, "no: workers are for Linux, macOS and other POSIX systems; on Windows, use WSL"),
    ],
    ids=["macOS", "Windows"],
)
def test_the_doctor_says_what_other_systems_lack(lacking: tuple[str, str, str], child_processes: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT, *lacking],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stderr == ""
    found = facts(ran.stdout)
    assert found["child processes"].startswith(child_processes)
    assert found["namespaces"].startswith("no: this system lacks ")
    assert found["sandbox"].startswith("refuses")


@pytest.mark.parametrize(
    ("path", "text", "cause"),
    [
        ("sys/kernel/unprivileged_userns_clone", "0\n", "the sysctl kernel.unprivileged_userns_clone is 0"),
        ("sys/kernel/unprivileged_userns_clone", "1\n", None),
        ("sys/kernel/apparmor_restrict_unprivileged_userns", "1\n", "the sysctl kernel.apparmor_restrict_unpri"),
        ("self/status", "Name:\tx\nSeccomp:\t2\n", "a seccomp filter is set"),
        ("self/status", "Name:\tx\nSeccomp:\t0\n", None),
    ],
)
def test_causes_are_read_from_proc(tmp_path: Path, path: str, text: str, cause: str | None) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(text)
    causes = namespace_causes(tmp_path)
    assert len(causes) == (cause is not None)
    assert all(found.startswith(str(cause)) for found in causes)


def install(folder: Path, name: str, version: str, *requirements: str) -> None:
    """Put the metadata of a package where Python looks first."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {each}" for each in requirements)]) + "\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    extras = ["trl>=1.15; extra == 'trl'", "transformers>=5.13; extra == 'trl'", "absent-one>=2; extra == 'absent'"]
    install(tmp_path, "gym-adapters", "0.1.0", "pydantic>=2.10", *extras)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_extras_show_the_installed_versions(site: Path) -> None:
    install(site, "trl", "1.16.0")
    install(site, "transformers", "5.23.0")
    absent, trl = find_extras()
    assert (absent.name, absent.versions, absent.is_installed) == ("absent", {"absent-one": None}, False)
    assert (trl.name, trl.versions) == ("trl", {"trl": "1.16.0", "transformers": "5.23.0"})
    assert trl.is_installed


def test_versions_that_conflict_are_named(site: Path) -> None:
    pytest.importorskip("packaging")
    install(site, "trl", "1.10.0", "transformers<5.20", "vllm<=0.31; extra == 'vllm'", "ruff==1.0; extra == 'dev'")
    install(site, "transformers", "5.23.0")
    install(site, "vllm", "0.33.0")
    install(site, "ruff", "0.15")
    assert find_conflicts() == [
        "gym-adapters 0.1.0 needs trl >=1.15, and 1.10.0 is installed",
        "trl 1.10.0 needs transformers <5.20, and 5.23.0 is installed",
        "trl 1.10.0 needs vllm <=0.31, and 0.33.0 is installed",
    ]


def test_versions_that_cannot_be_compared_are_not_called_free_of_conflicts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    assert main(["doctor"]) == 0
    assert "unknown: the package packaging, which compares versions, is not installed" in capsys.readouterr().out


@pytest.mark.parametrize(("peft", "conflicts"), [("0.21.2", 1), ("0.22.0", 0)])
def test_a_peft_that_transformers_refuses_is_named(site: Path, peft: str, conflicts: int) -> None:
    pytest.importorskip("packaging")
    install(site, "trl", "1.16.0")
    install(site, "transformers", "5.24.0")
    install(site, "peft", peft)
    (site / "transformers" / "integrations").mkdir(parents=True)
    (site / "transformers" / "integrations" / "peft.py").write_text('import x\n\nMIN_PEFT_VERSION = "0.22.0"\n')
    found = find_conflicts()
    assert len(found) == conflicts
    assert all(
        f"transformers 5.24.0 refuses to load a LoRA with peft {peft}, it needs 0.22.0" in each for each in found
    )
