"""Where the platform's records live, from the environment.

settings = RecordsSettings.load()
engine = open_database(settings.database_url)
"""

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from resunet.errors import SettingsError


class RecordsSettings(BaseSettings):
    """Each field is read from `RESUNET_<FIELD>`, in capitals; an empty variable counts as unset."""

    model_config = SettingsConfigDict(
        env_prefix="RESUNET_", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    home: Path = Field(default=Path(".resunet"), description="folder of the spool, the masks and the SQLite database")
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

    @classmethod
    def load(cls) -> "RecordsSettings":
        """Read the environment.

        Raises:
            SettingsError: a variable does not parse; the message names it, without its value.
        """
        try:
            return cls()
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            name = "RESUNET_" + "_".join(str(part) for part in first["loc"]).upper()
            raise SettingsError(f"{name} is not usable: {first['msg']}") from None
