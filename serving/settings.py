"""How a server runs a version, from the environment.

settings = ServingSettings.load()
Predictor.load(root, settings.engine, settings.threads or None)
"""

from typing import Literal

from pydantic import Field

from records.trust import TrustSettings

EngineSetting = Literal["auto", "onnxruntime", "openvino", "cuda"]


class ServingSettings(TrustSettings):
    """Each field is read from `RESUNET_<FIELD>`, in capitals; an empty variable counts as unset.

    With any of `TrustSettings` set only what is signed is served.
    """

    engine: EngineSetting = Field(default="auto", description="auto: the fastest that the version measured")
    threads: int = Field(default=0, ge=0, description="cores that one image is computed on; 0: all")
    # Above 10,000 x 10,000 RGB pixels without compression, 300 MB, and the same with an alpha channel, 400.
    max_image_mb: int = Field(
        default=512, ge=1, description="images of a request that have more than this many MB, encoded, are refused"
    )
    max_rows: int = Field(default=256, ge=1, description="a request of more images is refused")
    wait_seconds: float = Field(default=30, ge=0, description="longest wait for a turn before the answer is 503")
    # A URL may hold a password: keep it out of every repr. `records` reads it too; here it is only on or off.
    inference_log: str | None = Field(
        default=None,
        repr=False,
        description="database URL that predictions are logged to; unset: nothing is logged",
    )
