"""Where the platform's records live, from the environment.

settings = RecordsSettings.load()
engine = open_database(settings.database_url)
"""

from pathlib import Path

from pydantic import Field, SecretStr

from records.environment import EnvironmentSettings


class RecordsSettings(EnvironmentSettings):
    """Each field is read from `RESUNET_<FIELD>`, in capitals; an empty variable counts as unset."""

    home: Path = Field(default=Path(".resunet"), description="folder of spool, masks, images and the SQLite database")
    # A URL may hold a password: keep it out of every repr.
    database: str | None = Field(
        default=None,
        repr=False,
        description="database URL: sqlite:///… or postgresql+psycopg://…; unset: home/records.db",
    )
    inference_log: str | None = Field(
        default=None,
        repr=False,
        description="database URL that predictions are logged to; unset: nothing is logged",
    )
    mask_retention_days: int = Field(default=30, ge=1, description="predicted masks older than this are deleted")
    masks_max_mb: int = Field(
        default=0, ge=0, description="of more predicted masks the oldest are deleted; 0: no limit"
    )
    keep_images: float = Field(default=0.0, ge=0.0, le=1.0, description="share of answers whose image is kept")
    keep_labels: bool = Field(default=False, description="true masks sent as labels are kept, where the image is")
    image_retention_days: int = Field(
        default=30, ge=1, description="kept images, and true masks of them, older than this are deleted"
    )
    images_max_mb: int = Field(
        default=0, ge=0, description="of more kept images, and true masks of them, the oldest are deleted; 0: no limit"
    )
    blob_key: SecretStr | None = Field(
        default=None,
        description="keys of masks and images, in base64, comma-separated: the first seals, all of them unseal",
    )
    blob_key_file: Path | None = Field(default=None, description="file of such keys, a line each, instead of them")
    spool_max_mb: int = Field(
        default=4096,
        ge=1,
        description="predictions that wait for the database; a full spool refuses new ones",
    )
    debug: bool = Field(default=False, description="a command that fails shows its traceback")

    @property
    def database_url(self) -> str:
        """`database`, or the SQLite file in `home`."""
        return self.database or f"sqlite:///{(self.home / 'records.db').absolute()}"
