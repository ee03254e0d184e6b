"""Whose signature on a version is believed, from the environment. All who check one read it here.

    class MySettings(TrustSettings): …
    trust = MySettings().trust            # None: no signature is asked for
    signer = verify(model_root, trust)    # records.signing

| variable | is |
| --- | --- |
| `RESUNET_TRUSTED_KEY` | public keys (PEM), one after another: a signature by any of them counts |
| `RESUNET_TRUSTED_CERTIFICATES` | root certificates (PEM): the signing certificate has to lead to one of them |
| `RESUNET_TRUSTED_IDENTITY` | whom a certificate, an own one or Sigstore's, has to name: mail, URI, host or name |
| `RESUNET_TRUSTED_ISSUER` | OpenID issuer that vouched for that identity: asks for Sigstore |
| `RESUNET_SIGSTORE_TRUST_CONFIG` | Sigstore's roots and addresses (JSON); unset: the public ones, over the network |

Where several are given, a signature that satisfies one of key, certificates and Sigstore is enough: that is how an
organisation goes over from one to the other. All of it has to come from outside the version.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import Field

from records.environment import EnvironmentSettings
from resunet.errors import SettingsError

_PREFIX: Final = "RESUNET_TRUSTED_"


@dataclass(frozen=True)
class Trust:
    """Whose signature is believed; at least one of `keys`, `certificates` and `issuer` is set.

    Attributes:
        keys: file of public keys (PEM).
        certificates: file of root certificates (PEM).
        identity: whom a certificate has to name; empty: anybody to whom one of `certificates` leads.
        issuer: of the identity, for Sigstore.
        sigstore_config: Sigstore's roots; None: those of the public instance, fetched at each check.
    """

    keys: Path | None = None
    certificates: Path | None = None
    identity: str = ""
    issuer: str = ""
    sigstore_config: Path | None = None

    @property
    def told(self) -> str:
        """What is believed, for a message."""
        parts = [
            told
            for given, told in (
                (self.keys, "a key of RESUNET_TRUSTED_KEY"),
                (self.certificates, "a certificate that leads to RESUNET_TRUSTED_CERTIFICATES"),
                (self.issuer, f"{self.identity} by Sigstore"),
            )
            if given
        ]
        return " or ".join(parts)


class TrustSettings(EnvironmentSettings):
    """The part of a program's settings that says whom to believe; each field is read from `RESUNET_<FIELD>`."""

    trusted_key: Path | None = Field(
        default=None, description="public keys (PEM); a version has to be signed with one of them"
    )
    trusted_certificates: Path | None = Field(
        default=None, description="root certificates (PEM); the certificate that signed has to lead to one of them"
    )
    trusted_identity: str = Field(default="", description="whom a signing certificate has to name")
    trusted_issuer: str = Field(default="", description="who vouched for that identity: asks for Sigstore")
    sigstore_trust_config: Path | None = Field(
        default=None, description="Sigstore's roots (JSON); unset: the public instance, over the network"
    )

    @property
    def trust(self) -> Trust | None:
        """Whom to believe; None asks for no signature.

        Raises:
            SettingsError: what is set does not fit together, so that less would be asked for than it seems.
        """
        known = {f"RESUNET_{name}".upper() for name in TrustSettings.model_fields}
        for name in os.environ:
            if name.upper().startswith(_PREFIX) and name.upper() not in known:
                raise SettingsError(f"{name} is no setting of this platform: is it mistyped? It asks for no signature")
        if self.trusted_issuer and not self.trusted_identity:
            raise SettingsError(
                "RESUNET_TRUSTED_ISSUER is set without RESUNET_TRUSTED_IDENTITY: name whose signature to believe, for "
                "Sigstore signs for anybody"
            )
        if self.trusted_identity and not (self.trusted_issuer or self.trusted_certificates):
            raise SettingsError(
                "RESUNET_TRUSTED_IDENTITY is set, but not who vouches for it: set RESUNET_TRUSTED_CERTIFICATES, or "
                "RESUNET_TRUSTED_ISSUER for Sigstore"
            )
        if not (self.trusted_key or self.trusted_certificates or self.trusted_issuer):
            return None
        return Trust(
            keys=self.trusted_key,
            certificates=self.trusted_certificates,
            identity=self.trusted_identity,
            issuer=self.trusted_issuer,
            sigstore_config=self.sigstore_trust_config,
        )
