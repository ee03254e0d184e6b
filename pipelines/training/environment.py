"""What a training ran on and with: versions, processor, threads; logged with every run.

environment = Environment.here()
environment.tags()                      # {"environment.python": "3.11.7", …, "environment.threads": "2"}
environment.since(run.data.tags)        # "threads 2, now 1": what is another than in those tags
installed(project_pins())               # the text of environment.txt, "alembic==1.20.1\\n…"
"""

import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import torch

from pipelines.training.processor import processor

ENVIRONMENT_FILE = "environment.txt"
_PREFIX = "environment."
# Counts up whenever the same step comes to be computed in another way. Runs that do not name it are of the first.
ARITHMETIC = 2
_FIRST = {f"{_PREFIX}arithmetic": "1"}
_ABSENT = "absent"


@dataclass(frozen=True)
class Environment:
    """What decides the last bits of the weights, besides the settings.

    Attributes:
        threads: that torch computes with.
        arithmetic: `ARITHMETIC` of the release.
    """

    python: str
    torch: str
    lightning_fabric: str
    onnxruntime: str
    processor: str
    threads: int
    arithmetic: int

    @classmethod
    def here(cls) -> "Environment":
        """That of this process."""
        return cls(
            python=platform.python_version(),
            torch=_version("torch"),
            lightning_fabric=_version("lightning-fabric"),
            onnxruntime=_version("onnxruntime"),
            processor=processor(),
            threads=torch.get_num_threads(),
            arithmetic=ARITHMETIC,
        )

    def tags(self) -> dict[str, str]:
        """As tags of a run."""
        return {f"{_PREFIX}{name}": str(value) for name, value in asdict(self).items()}

    def since(self, tags: Mapping[str, str]) -> str:
        """In words, what is another than in a run's tags; empty if nothing is, or they say nothing."""
        known = {**_FIRST, **tags} if f"{_PREFIX}python" in tags else tags
        changed = [(name, known[name], now) for name, now in self.tags().items() if known.get(name, now) != now]
        return ", ".join(f"{name.removeprefix(_PREFIX)} {before}, now {now}" for name, before, now in changed)

    def __str__(self) -> str:
        packages = f"torch {self.torch}, lightning-fabric {self.lightning_fabric}, onnxruntime {self.onnxruntime}"
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        return f"Python {self.python}, {packages}, {threads}, {self.processor}; arithmetic {self.arithmetic}"


def installed(requirements: Iterable[str]) -> str:
    """The installed version of each required package, `name==version` a line, as `pip` reads it.

    Args:
        requirements: as in pyproject.toml, `torch==2.13.0`, a marker behind it or not.
    """
    lines = [f"# Python {platform.python_version()}, {platform.platform()}"]
    for requirement in requirements:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        found = _version(name)
        lines.append(f"{name}=={found}" if found != _ABSENT else f"# {name} is not installed")
    return "\n".join(lines) + "\n"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return _ABSENT
