"""What is measured about a version, and where it is kept: documents, each of one kind, bound to the bytes measured.

`evaluation.py` is the document that a version carries itself; `documents.py` those measured before a stage;
`bundle.py` is all that a gate may look at.
"""

from records.approvals import Approval
from registry.evidence.bundle import Evidence, VersionFacts
from registry.evidence.documents import (
    DOCUMENTS,
    Band,
    BandCalibration,
    Bin,
    Condition,
    DataCheck,
    Dependencies,
    Document,
    EngineParity,
    InputContract,
    Lineage,
    Overlap,
    Parity,
    Performance,
    Robustness,
    Vulnerability,
)
from registry.evidence.evaluation import (
    EVALUATION_FILE,
    FORMAT_VERSION,
    VERSION_FOLDER,
    Evaluation,
    ImageScore,
    Interval,
    Metric,
    SliceResult,
)

__all__ = [
    "DOCUMENTS",
    "EVALUATION_FILE",
    "FORMAT_VERSION",
    "VERSION_FOLDER",
    "Approval",
    "Band",
    "BandCalibration",
    "Bin",
    "Condition",
    "DataCheck",
    "Dependencies",
    "Document",
    "EngineParity",
    "Evaluation",
    "Evidence",
    "ImageScore",
    "InputContract",
    "Interval",
    "Lineage",
    "Metric",
    "Overlap",
    "Parity",
    "Performance",
    "Robustness",
    "SliceResult",
    "VersionFacts",
    "Vulnerability",
]
