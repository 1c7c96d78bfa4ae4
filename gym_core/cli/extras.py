"""Installed packages: what the extras ask for, and what conflicts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

_OURS = "gym-adapters"
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?:\[[^\]]*\])?[^;]*(?:;.*\bextra\s*==\s*['\"](?P<extra>[\w.-]+)['\"])?.*")
_PEFT_FLOOR = re.compile(r"^MIN_PEFT_VERSION\s*=\s*['\"]([0-9.]+)['\"]", re.MULTILINE)


@dataclass(frozen=True)
class Extra:
    """An extra of ours.

    Attributes:
        name: Name of the extra.
        versions: Installed version of each package that it asks for; None where the package is missing.
    """

    name: str
    versions: dict[str, str | None]

    @property
    def is_installed(self) -> bool:
        """Whether the package that gives the extra its purpose is installed."""
        return self.versions.get(self.name, next(iter(self.versions.values()))) is not None


def installed_version(package: str) -> str | None:
    """The version of a package; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def find_extras() -> list[Extra]:
    """Our extras; none if this package is a checkout that was never installed."""
    packages: dict[str, dict[str, str | None]] = {}
    for text in _requirements(_OURS):
        requirement = _REQUIREMENT.fullmatch(text)
        if requirement and requirement["extra"]:
            extra, name = requirement["extra"], requirement["name"]
            packages.setdefault(extra, {})[name] = installed_version(name)
    return [Extra(name, versions) for name, versions in sorted(packages.items())]


def find_conflicts() -> list[str] | None:
    """One sentence per conflict between installed packages that our extras use; None if versions can't be compared."""
    try:
        from packaging.requirements import Requirement  # it comes with every trainer; the core does without
    except ImportError:
        return None
    extras = find_extras()
    ours = {extra.name for extra in extras if extra.is_installed}
    used = {package for extra in extras if extra.is_installed for package in extra.versions}
    found: list[str] = []
    for package in [_OURS, *sorted(used)]:
        for requirement in map(Requirement, _requirements(package)):
            # An extra named like a package, such as TRL's `vllm`, states which versions of the package are supported.
            names = ours if package == _OURS else {requirement.name}
            applies = requirement.marker is None or any(
                requirement.marker.evaluate({"extra": name}) for name in ("", *names)
            )
            version = installed_version(requirement.name)
            if applies and version and not requirement.specifier.contains(version, prereleases=True):
                wanted = f"{requirement.name} {requirement.specifier}"
                found.append(f"{package} {installed_version(package)} needs {wanted}, and {version} is installed")
    return [*found, *_peft_conflict()]


def _requirements(package: str) -> list[str]:
    try:
        return metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return []


def _peft_conflict() -> Iterator[str]:
    """The conflict in which transformers refuses to load a LoRA with this peft, which its metadata doesn't state."""
    from packaging.version import Version

    peft, transformers = installed_version("peft"), installed_version("transformers")
    if peft is None or transformers is None:
        return
    source = metadata.distribution("transformers").locate_file("transformers/integrations/peft.py")
    try:
        floor = _PEFT_FLOOR.search(Path(str(source)).read_text(encoding="utf-8"))
    except OSError:  # another layout
        return
    if floor and Version(peft) < Version(floor[1]):
        yield (
            f"transformers {transformers} refuses to load a LoRA with peft {peft}, it needs {floor[1]} or newer; "
            "load it with peft.PeftModel.from_pretrained, or install another transformers"
        )
