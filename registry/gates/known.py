"""The gates that a policy can name: the platform's own, and those of installed packages.

[project.entry-points."resunet.gates"]
night_shift = "my_package.gates:night_shift"      # in the pyproject.toml of a package of yours
"""

from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Final

from registry.gates.behaviour import calibration, parity, robustness
from registry.gates.data import data
from registry.gates.files import evaluated, intact, signed
from registry.gates.gate import AnyGate, Gate
from registry.gates.operation import dependencies, performance, signature
from registry.gates.people import approved
from registry.gates.scores import champion, floor, slices
from resunet.errors import SettingsError

GROUP: Final = "resunet.gates"
BUILT_IN: Final[Mapping[str, AnyGate]] = MappingProxyType(
    {
        one.name: one
        for one in (
            intact, evaluated, floor, champion, slices, robustness, calibration, parity, performance, signature,
            dependencies, data, signed, approved,
        )
    }
)  # fmt: skip


def known_gates() -> list[str]:
    """The names of all gates, the platform's own first."""
    return [*BUILT_IN, *(name for name in _added() if name not in BUILT_IN)]


def find_gate(name: str) -> AnyGate | None:
    """The gate of this name; None if there is none. A package cannot replace one of the platform's own.

    Raises:
        SettingsError: the package that offers it cannot be loaded, or it is no gate.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    point = _added().get(name)
    return None if point is None else _load(point)


@lru_cache(maxsize=1)
def _added() -> Mapping[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _load(point: EntryPoint) -> AnyGate:
    try:
        found = point.load()
    except Exception as error:
        # A package of somebody else's: whatever its import raises is its own matter.
        raise SettingsError(f"the gate {point.name} ({point.value}) cannot be loaded: {error}") from error
    if not isinstance(found, Gate):
        raise SettingsError(f"the gate {point.name} ({point.value}) is no gate: decorate it with registry.gates.gate")
    if found.name != point.name:
        raise SettingsError(f"the gate {point.name} ({point.value}) is called {found.name}: give both one name")
    return found
