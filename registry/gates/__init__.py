"""Gates: pure functions from stored evidence to a verdict. They measure nothing and move nothing."""

from registry.gates.gate import Gate, GateSettings, Judged, Outcome, Verdict, gate
from registry.gates.known import find_gate, known_gates
from registry.gates.wording import missing

__all__ = ["Gate", "GateSettings", "Judged", "Outcome", "Verdict", "find_gate", "gate", "known_gates", "missing"]
