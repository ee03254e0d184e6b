"""What a gate is, and gates of other packages."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gate_evidence import evidence

from registry.evidence import Document, Evidence, Parity
from registry.gates import Gate, GateSettings, Verdict, find_gate, gate, known, known_gates
from registry.policy import parse_policy
from resunet.errors import SettingsError

BUILT_IN = [
    *("intact", "evaluated", "floor", "champion", "slices", "robustness", "calibration", "parity", "performance"),
    *("signature", "dependencies", "data", "signed", "approved"),
]


def test_the_platform_has_these_gates_and_each_says_what_it_asks() -> None:
    assert known_gates()[: len(BUILT_IN)] == BUILT_IN
    for name in BUILT_IN:
        found = find_gate(name)
        assert found is not None and found.name == name
        assert found.help
        found.settings()  # all have defaults


def test_a_function_becomes_a_gate_of_its_name_settings_and_needs() -> None:
    class Own(GateSettings):
        least: int = 3

    @gate(needs=[Parity, "scores"])
    def night_shift(given: Evidence, settings: Own) -> Verdict:
        """At night."""
        return Verdict("pass", f"{settings.least}")

    assert (night_shift.name, night_shift.settings, night_shift.help) == ("night_shift", Own, "At night.")
    assert night_shift.needs == {"parity", "scores"}
    assert night_shift(evidence(), Own(least=4)).evidence == "4"


def without_settings(given: Evidence) -> Verdict:
    return Verdict("pass", "")


def untyped(given, settings):  # type: ignore[no-untyped-def]
    return Verdict("pass", "")


def of_other_settings(given: Evidence, settings: dict) -> Verdict:  # type: ignore[type-arg]
    return Verdict("pass", "")


@pytest.mark.parametrize("function", [without_settings, untyped, of_other_settings])
def test_a_function_that_takes_something_else_is_no_gate(function: object) -> None:
    with pytest.raises(TypeError, match="has to be a function of"):
        gate()(function)  # type: ignore[arg-type]


class Smell(Document):
    """Nobody measures it."""

    kind = "smell"


@pytest.mark.parametrize("need", [Smell, "smell"])
def test_a_gate_cannot_need_what_nobody_measures(need: type[Document] | str) -> None:
    with pytest.raises(TypeError, match="nobody measures evidence of the kind smell; there is scores, lineage"):
        gate(needs=[need])


PACKAGE = '''
from registry.evidence import Evidence
from registry.gates import GateSettings, Verdict, gate


@gate()
def night_shift(evidence: Evidence, settings: GateSettings) -> Verdict:
    """At night."""
    return Verdict("pass", "it is night")


@gate()
def floor(evidence: Evidence, settings: GateSettings) -> Verdict:
    """Anything goes."""
    return Verdict("pass", "anything goes")


def no_gate() -> None:
    pass
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package on the path that offers gates, sound and other."""
    (tmp_path / "shifts.py").write_text(PACKAGE)
    info = tmp_path / "shifts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shifts\nVersion: 1.0\n")
    offered = {
        "night_shift": "shifts:night_shift",
        "floor": "shifts:floor",
        "no_gate": "shifts:no_gate",
        "renamed": "shifts:night_shift",
        "gone": "shifts:gone",
        "unbuilt": "shifts_that_nobody_built:night_shift",
    }
    entries = "".join(f"{name} = {place}\n" for name, place in offered.items())
    (info / "entry_points.txt").write_text(f"[resunet.gates]\n{entries}")
    monkeypatch.syspath_prepend(str(tmp_path))
    known._added.cache_clear()
    yield
    known._added.cache_clear()
    sys.modules.pop("shifts", None)


BASE = "format: 1\nstages:\n  Production:\n"


def test_a_gate_of_another_package_is_known_by_its_entry_point(installed: None) -> None:
    assert "night_shift" in known_gates()
    rule = parse_policy(f"{BASE}    night_shift:\n").stages["Production"][0]
    assert rule.gate(evidence(), rule.settings).evidence == "it is night"


def test_no_package_replaces_a_gate_of_the_platform(installed: None) -> None:
    floor = find_gate("floor")
    assert isinstance(floor, Gate) and floor.needs == {"scores"}
    assert known_gates().count("floor") == 1


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no_gate", "is no gate: decorate it with registry.gates.gate"),
        ("renamed", "is called night_shift: give both one name"),
        ("gone", "cannot be loaded: "),
        ("unbuilt", "cannot be loaded: No module named 'shifts_that_nobody_built'"),
    ],
)
def test_a_package_whose_gate_cannot_be_used_is_told_with_the_policys_line(
    name: str, told: str, installed: None
) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_policy(f"{BASE}    intact:\n    {name}:\n", "policy.yaml")
    assert str(refused.value).startswith(f"policy.yaml, line 5: the gate {name} (shifts")
    assert told in str(refused.value)
