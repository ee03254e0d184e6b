"""A certificate authority of a test, and what it issues."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CODE_SIGNING = (ExtendedKeyUsageOID.CODE_SIGNING,)
WEB_SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)
DAY = timedelta(days=1)


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Holder:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def write(self, folder: Path, *chain: "Holder") -> tuple[Path, Path]:
        """Write the private key, and the certificate with those after it in its chain.

        Returns:
            the paths of both files.
        """
        folder.mkdir(parents=True, exist_ok=True)
        key, certificates = folder / "key.pem", folder / "certificates.pem"
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        certificates.write_bytes(b"".join(one.pem() for one in (self, *chain)))
        return key, certificates

    def issue(
        self,
        name: str,
        *,
        authority: bool = False,
        usages: Sequence[x509.ObjectIdentifier] | None = CODE_SIGNING,
        digital_signature: bool = True,
        start: datetime | None = None,
        days: int = 30,
        curve: ec.EllipticCurve | None = None,
    ) -> "Holder":
        """A certificate for a mail address; an `authority` may issue further ones."""
        key = ec.generate_private_key(curve or ec.SECP256R1())
        return Holder(_build(name, key, self, authority, usages, digital_signature, start or now() - DAY, days), key)


def make_root(name: str = "Root of a test") -> Holder:
    """A certificate that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Holder(_build(name, key, None, True, None, False, now() - 30 * DAY, 3650), key)


def _build(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: Holder | None,
    authority: bool,
    usages: Sequence[x509.ObjectIdentifier] | None,
    digital_signature: bool,
    start: datetime,
    days: int,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + days * DAY)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature, authority), critical=True)
    )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if "@" in name:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name(name)]), critical=False)
    return builder.sign(issuer.key if issuer else key, hashes.SHA256())


def _key_usage(digital_signature: bool, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=not (digital_signature or authority),  # OpenSSL takes no empty usage
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
