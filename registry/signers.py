"""Who signs new versions, from the environment: a key, a certificate or Sigstore.

    signer = SigningSettings.load().signer      # None leaves versions unsigned
    signer.check()                              # before hours are spent on a version
    sign(model_root, signer)                    # registry.signing

| variable | is |
| --- | --- |
| `RESUNET_SIGNING_KEY` | private key (P-256, PEM, without a password) that signs new versions |
| `RESUNET_SIGNING_CERTIFICATE` | its certificate (PEM), and after it those that lead to the root |
| `RESUNET_SIGNING_SIGSTORE` | 1: sign with Sigstore, as this workload or with the token; needs the network |
| `RESUNET_SIGNING_TOKEN` | identity token (OpenID) for Sigstore; they live for minutes |
| `RESUNET_SIGSTORE_TRUST_CONFIG` | Sigstore's addresses and roots (JSON); unset: the public instance |

`records.trust` has the variables of who checks.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr

from records.certificates import may_sign, read
from records.environment import EnvironmentSettings
from records.public_keys import bad_key
from records.signing import sigstore_problem
from resunet.errors import SettingsError

_KEY, _CERTIFICATE = "RESUNET_SIGNING_KEY", "RESUNET_SIGNING_CERTIFICATE"


@dataclass(frozen=True)
class Signer:
    """Who signs: a key, a key with its certificate, or whoever Sigstore is told to be.

    Attributes:
        key: private key (PEM); None: Sigstore.
        certificate: of the key, and after it those that lead to the root (PEM).
        token: identity token for Sigstore; empty: that of the workload.
        trust_config: Sigstore's addresses and roots (JSON); None: the public instance.
    """

    key: Path | None = None
    certificate: Path | None = None
    token: SecretStr = field(default=SecretStr(""), repr=False)
    trust_config: Path | None = None

    def check(self) -> None:
        """See that versions can be signed, as far as that shows before hours are spent on one.

        Raises:
            SettingsError: a file cannot be read or is of another kind, the certificate is not the key's, is not for
                signing or not valid now, or there is nobody to sign as.
        """
        if self.key is None:
            self._identity()
            return
        check_private_key(self.key, _KEY)
        if self.certificate is not None:
            _check_certificate(self.certificate, self.key)

    def configure(self, config: Any) -> None:
        """Tell the library.

        Raises:
            SettingsError: as above.
            StoreError: Sigstore cannot be reached.
        """
        if self.key is None:
            token = self._identity()
            try:
                config.use_sigstore_signer(
                    identity_token=token, use_ambient_credentials=False, trust_config=self.trust_config
                )
            except Exception as error:
                raise sigstore_problem(error, self.trust_config, "so nothing was signed: try again") from error
            return
        try:
            if self.certificate is None:
                config.use_elliptic_key_signer(private_key=self.key)
            else:
                # The certificate once more as its own chain: the library takes no empty one.
                config.use_certificate_signer(
                    private_key=self.key, signing_certificate=self.certificate, certificate_chain=[self.certificate]
                )
        except (OSError, TypeError, ValueError, AttributeError) as error:
            self.check()
            raise SettingsError(bad_key(self.key, "private")) from error

    def _identity(self) -> str:
        """The token to sign with at Sigstore. The library would ask a person with a browser where there is none."""
        if self.token.get_secret_value():
            return self.token.get_secret_value()
        from sigstore.oidc import IdentityError, detect_credential

        try:
            found = detect_credential()
        except IdentityError as error:
            raise SettingsError(
                "RESUNET_SIGNING_SIGSTORE is on, and this workload's identity cannot be had: see that it may ask for "
                "an identity token, or set RESUNET_SIGNING_TOKEN"
            ) from error
        if not found:
            raise SettingsError(
                "RESUNET_SIGNING_SIGSTORE is on, and there is nobody to sign as: this is no workload with an identity "
                "of its own, so set RESUNET_SIGNING_TOKEN to an identity token"
            )
        return str(found)


class SigningSettings(EnvironmentSettings):
    """How new versions are signed; each field is read from `RESUNET_<FIELD>`."""

    signing_key: Path | None = Field(default=None, description="private key (PEM) that new versions are signed with")
    signing_certificate: Path | None = Field(
        default=None, description="certificate of that key, and after it those that lead to the root (PEM)"
    )
    signing_sigstore: bool = Field(default=False, description="sign with Sigstore; needs the network")
    signing_token: SecretStr = Field(
        default=SecretStr(""), description="identity token for Sigstore; unset: that of the workload"
    )
    sigstore_trust_config: Path | None = Field(
        default=None, description="Sigstore's addresses and roots (JSON); unset: the public instance"
    )

    @property
    def signer(self) -> Signer | None:
        """Who signs; None leaves versions unsigned.

        Raises:
            SettingsError: what is set does not fit together.
        """
        if self.signing_sigstore:
            if self.signing_key or self.signing_certificate:
                raise SettingsError(f"RESUNET_SIGNING_SIGSTORE and {_KEY} are both set: choose one")
            return Signer(token=self.signing_token, trust_config=self.sigstore_trust_config)
        if self.signing_certificate and not self.signing_key:
            raise SettingsError(f"{_CERTIFICATE} is set without {_KEY}, the private key that belongs to it")
        return Signer(self.signing_key, self.signing_certificate) if self.signing_key else None


def check_private_key(path: Path, setting: str = "the private key") -> Any:
    """See that versions can be signed with a key, before hours are spent on one.

    Args:
        path: PEM of the private half.
        setting: what the path came from, for the message.

    Returns:
        its public half.

    Raises:
        SettingsError: there is no such file, it cannot be read, or it is no private P-256 key without a password.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise SettingsError(
            f"{setting}: {path} cannot be read ({error.strerror}); `python -m registry keygen` makes a pair"
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"{setting}: {bad_key(path, 'private')}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SettingsError(f"{setting}: {bad_key(path, 'private')}")
    return key.public_key()


def _check_certificate(path: Path, key: Path) -> None:
    certificate = read(path, _CERTIFICATE)[0]
    if certificate.public_key() != check_private_key(key, _KEY):
        raise SettingsError(f"{_CERTIFICATE}: the first certificate of {path} is not that of the key {key}")
    if not may_sign(certificate):
        raise SettingsError(f"{_CERTIFICATE}: {path} is not for signing code; ask for one with that extended usage")
    if not certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc:
        raise SettingsError(
            f"{_CERTIFICATE}: {path} is valid from {certificate.not_valid_before_utc:%Y-%m-%d} to "
            f"{certificate.not_valid_after_utc:%Y-%m-%d}, not today; ask for a new one"
        )
