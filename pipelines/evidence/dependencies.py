"""The environment that a version asks for: what is not pinned, what is known to be vulnerable, what is pickled."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import yaml

from pipelines.evidence.own_code import read_mlmodel
from pipelines.evidence.pickles import pickled_files
from pipelines.evidence.subject import Version
from registry.evidence import Dependencies, Vulnerability

REQUIREMENTS: Final = "requirements.txt"
_CONDA: Final = "conda.yaml"
_VIRTUALENV: Final = "python_env.yaml"
# With uv, MLflow takes such a file where there is one.
_INSTEAD: Final = ("uv.lock", "pyproject.toml")
_BUILDERS: Final = frozenset({"pip", "setuptools", "wheel"})
_OF_CONDA: Final = frozenset({"python", "pip"})
_CONDA_PIN: Final = re.compile(r"[\w.-]+=+[\w.!+-]+(=[\w.-]+)?")
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_PIN: Final = re.compile(rf"{_NAME}\s*(\[[^]]*\])?\s*===?\s*[^\s*,<>=!~;]+")
_AUDIT_SECONDS: Final = 120


def dependencies(version: Version) -> Dependencies:
    """Read the version's requirements, ask about them, and look for pickles among its files."""
    requirements = _requirements(version.model)
    pinned = [line for line in requirements if _is_pin(line)]
    unpinned = [line for line in requirements if line not in pinned]
    if not (version.model / REQUIREMENTS).is_file():
        unpinned.insert(0, f"anything: there is no {REQUIREMENTS}")
    unpinned += _elsewhere(version.model)
    vulnerabilities, not_audited = _audit(pinned)
    return Dependencies(
        pinned=pinned,
        unpinned=unpinned,
        pickles=pickled_files(version.model),
        vulnerabilities=vulnerabilities,
        not_audited=not_audited,
    )


def _is_pin(line: str) -> bool:
    return _PIN.fullmatch(line.partition(";")[0].strip()) is not None


def _requirements(model: Path) -> list[str]:
    """What pip would be told, in whichever environment; options too, for they fetch from elsewhere or other files."""
    path = model / REQUIREMENTS
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    # As pip reads it: lines are joined first, comments cut off then.
    lines = [re.sub(r"(^|\s)#.*", "", line) for line in re.sub(r"\\\r?\n", " ", text).splitlines()]
    for entry in _listed(model / _CONDA, "dependencies"):
        lines += [str(line) for line in entry.get("pip") or []] if isinstance(entry, dict) else []
    lines += [str(line) for line in _listed(model / _VIRTUALENV, "dependencies") if line != f"-r {REQUIREMENTS}"]
    bare = [re.sub(r"\s--hash=\S+", "", line).strip() for line in lines]
    return list(dict.fromkeys(line for line in bare if line))


def _elsewhere(model: Path) -> list[str]:
    """What would be installed besides: tools that build, packages of conda, and files that say something else.

    MLflow writes `pip`, `setuptools` and `wheel` of the machine that trained, some without a number: they are let pass.
    """
    found = [
        f"{line} (to build with)"
        for line in map(str, _listed(model / _VIRTUALENV, "build_dependencies"))
        if _package(line) not in _BUILDERS and not _is_pin(line)
    ]
    for entry in _listed(model / _CONDA, "dependencies"):
        if isinstance(entry, str) and _package(entry) not in _OF_CONDA and not _CONDA_PIN.fullmatch(entry.strip()):
            found.append(f"{entry} (of conda)")
    flavours = read_mlmodel(model).get("flavors") if (model / "MLmodel").is_file() else None
    flavour = flavours.get("python_function") if isinstance(flavours, dict) else None
    environment = flavour.get("env") if isinstance(flavour, dict) else None
    if environment is not None and environment != {"conda": _CONDA, "virtualenv": _VIRTUALENV}:
        found.append("anything: MLmodel names other files of requirements")
    return found + [f"anything: {name} is read in place of the rest" for name in _INSTEAD if (model / name).exists()]


def _listed(path: Path, key: str) -> list[Any]:
    """A list in a YAML file; empty where there is none."""
    content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    found = content.get(key) if isinstance(content, dict) else None
    return found if isinstance(found, list) else []


def _package(line: str) -> str:
    """The name of a requirement, as it compares."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[=<>!~;@\s]", line.strip(), maxsplit=1)[0]).lower()


def _audit(pinned: list[str]) -> tuple[list[Vulnerability] | None, str]:
    """Ask pip-audit, which is an extra, for known vulnerabilities.

    Returns:
        those of the packages that could be looked up, None where none could be; and which could not, and why.
    """
    if not pinned:
        return None, "there is no pin to look up"
    found: list[Vulnerability] = []
    known, unknown = 0, []
    for part in _parts(pinned):
        report, why = _ask(part)
        if report is None:
            return None, why
        for package in report:
            if "vulns" not in package:
                unknown.append(str(package.get("name", "?")))
                continue
            known += 1
            for one in package["vulns"]:
                found.append(
                    Vulnerability(
                        package=package["name"],
                        version=package["version"],
                        id=one["id"],
                        fixed_in=one.get("fix_versions") or [],
                    )
                )
    if not known:
        return None, "the audit database that was asked knows none of them"
    return found, f"not in the audit database: {', '.join(unknown)}" if unknown else ""


def _parts(pinned: list[str]) -> list[list[str]]:
    """The pins without their markers, no package twice in one part: pip-audit refuses that."""
    parts: list[dict[str, str]] = [{}]
    for line in dict.fromkeys(line.partition(";")[0].strip() for line in pinned):
        name = _package(line)
        place = next((part for part in parts if name not in part), None)
        if place is None:
            parts.append(place := {})
        place[name] = line
    return [list(part.values()) for part in parts]


def _ask(lines: list[str]) -> tuple[list[dict[str, Any]] | None, str]:
    """pip-audit's report on some pins; None, and why, where there is none."""
    with tempfile.TemporaryDirectory(prefix="resunet-audit-") as folder:
        path = Path(folder, REQUIREMENTS)
        path.write_text("\n".join(lines), encoding="utf-8")
        command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--format", "json", "--desc", "off"]
        command += ["--progress-spinner", "off", "--timeout", "15", "--requirement", str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_AUDIT_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return None, "no audit database answered in time"
    if "No module named pip_audit" in done.stderr:
        return None, "pip-audit is not installed: pip install 'resunet-lifecycle[audit]'"
    try:
        report: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
        return report, ""
    except (ValueError, KeyError, TypeError):
        words = done.stderr.strip().splitlines()
        return None, f"no audit database could be asked: {words[-1][:200] if words else f'exit {done.returncode}'}"
