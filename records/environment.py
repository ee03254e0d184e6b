"""Settings that are read from the environment: one way to read them, and one to say what is wrong with them.

class MailSettings(EnvironmentSettings):
    mail_host: str = ""             # RESUNET_MAIL_HOST

settings = MailSettings.load()
"""

from typing import Any, Self

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from resunet.errors import SettingsError

PREFIX = "RESUNET_"


class EnvironmentSettings(BaseSettings):
    """Each field is read from `RESUNET_<FIELD>`, in capitals; an empty variable counts as unset."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Read the environment.

        Args:
            given: fields that a command line has; they go before the environment's.

        Raises:
            SettingsError: a variable does not parse; the message names it, without its value, which may be a secret.
        """
        try:
            return cls(**given)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            name = cls.model_config["env_prefix"] + "_".join(str(part) for part in first["loc"]).upper()
            raise SettingsError(f"{name} is not usable: {first['msg']}; change or unset it") from None
