"""What a version holds: `version.json` and the files beside it.

spec = VersionSpec.read(Path("artifacts/version"))
spec.tile.halo, spec.precision, spec.class_names
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from resunet.errors import VersionError

FORMAT_VERSION = 1
SPEC_FILE = "version.json"
GRAPH_FILE = "model.onnx"
WEIGHTS_FILE = "weights.safetensors"
MANIFEST_FILE = "manifest.parquet"
ANCESTORS_FILE = "ancestors.parquet"
REFERENCE_FILE = "reference.parquet"
EVALUATION_FILE = "evaluation.json"
CARD_FILE = "model_card.md"
GOLDEN_INPUT_FILE = "golden_input.png"
GOLDEN_OUTPUT_FILE = "golden_output.npz"

Precision = Literal["fp32", "bf16", "int8"]
EngineName = Literal["onnxruntime", "openvino"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TileSpec(_Part):
    """How an image larger than `max_side` is cut. Tiles are cropped, not blended (lengths in pixels)."""

    tileable: bool
    halo: int = Field(ge=0, description="context around a tile's core; at least the receptive field's radius")
    stride: int = Field(ge=1, description="tile origins are multiples of it (the network's downsampling)")
    core: int = Field(ge=1, description="side of the part of a tile that is kept")
    whole_side: int = Field(ge=1, description="an image with both sides up to this is run whole")


class Calibration(_Part):
    """Fitted on the validation split through the serving file.

    `temperature` divides the logits. `confidence_x` → `confidence_y` is a monotone piecewise-linear map from
    soft Dice to expected Dice. `conformal_halfwidth` is the half width of a 90 % split-conformal interval of
    an image's Dice around its confidence.
    """

    temperature: float = Field(gt=0)
    confidence_x: list[float]
    confidence_y: list[float]
    conformal_halfwidth: float = Field(ge=0)
    images: int = Field(ge=0, description="how many validation images it was fitted on")


class EngineMeasurement(_Part):
    """One engine on the serving file, measured where the version was made."""

    eligible: bool = Field(description="masks agree with ONNX Runtime's on at least 99.99 % of pixels")
    pixel_agreement: float
    latency_ms: float = Field(description="median wall time of one 256x256 image")


class VersionSpec(_Part):
    """`version.json`."""

    format_version: Literal[1] = 1
    architecture: str
    width: int
    in_channels: Literal[3] = 3
    class_names: list[str] = Field(description="one name for a binary model: the foreground; else one a class")
    serving_file: str = GRAPH_FILE
    precision: Precision = Field(description="of the serving file as it is run; bf16 runs the fp32 file in bf16")
    threshold: float = Field(0.5, gt=0, lt=1, description="binary models only")
    tile: TileSpec
    calibration: Calibration
    engines: dict[EngineName, EngineMeasurement]

    @property
    def binary(self) -> bool:
        return len(self.class_names) == 1

    @classmethod
    def read(cls, root: Path) -> "VersionSpec":
        """Read `root/version.json`.

        Raises:
            VersionError: it is missing, or its format is not known to this release.
        """
        path = root / SPEC_FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise VersionError(f"{SPEC_FILE} is missing: this is not a version made by this platform") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise VersionError(
                f"{SPEC_FILE} is not understood at {where or 'its top'}: {first['msg']}. "
                f"This release reads format {FORMAT_VERSION}; upgrade the platform or train the version anew"
            ) from error

    def write(self, root: Path) -> None:
        (root / SPEC_FILE).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
