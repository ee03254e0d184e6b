"""Certificates that sign versions: what the library does not ask, and who it was.

The library builds the chain to a trusted root, at the time when the certificate began, and asks for the key usage
`digital signature`. A web server's certificate of the same authority has that too, so the extended usage is asked for
here, and the name where one is expected.
"""

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resunet.errors import SettingsError, VersionError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_BROKEN = "model.sig is not a signature that can be read (its chain of certificates)"


def roots(path: Path) -> Path:
    """A file of root certificates, once it is known to hold some.

    Raises:
        SettingsError: it cannot be read, or holds no certificate in PEM.
    """
    read(path, "RESUNET_TRUSTED_CERTIFICATES")
    return path


def read(path: Path, setting: str) -> "list[Certificate]":
    """The certificates of a PEM file, at least one.

    Args:
        setting: what the path came from, for the message.

    Raises:
        SettingsError: it cannot be read, or holds none.
    """
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{setting}: {path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise SettingsError(f"{setting}: {path} holds no certificate in PEM, or a broken one") from error


def der_chain(material: Any) -> list[bytes]:
    """The certificates (DER) of a signature, that of the signer first.

    Args:
        material: the signature's `x509CertificateChain`.

    Raises:
        VersionError: there is none, or something else beside them.
    """
    try:
        if set(material) != {"certificates"} or any(set(one) != {"rawBytes"} for one in material["certificates"]):
            raise ValueError("unknown fields")
        chain = [base64.b64decode(one["rawBytes"], validate=True) for one in material["certificates"]]
    except (ValueError, TypeError, KeyError) as error:
        raise VersionError(_BROKEN) from error
    if not chain:
        raise VersionError(_BROKEN)
    return chain


def named(der: bytes, identity: str) -> str:
    """Who signed: whom the certificate names whose chain and signature were found to hold.

    Args:
        der: the certificate.
        identity: whom it has to name; empty: anybody.

    Raises:
        VersionError: it names somebody else, or is for something else than signing code.
    """
    from cryptography import x509

    certificate = x509.load_der_x509_certificate(der)
    names = names_of(certificate)
    who = identity or (names[0] if names else f"serial {certificate.serial_number:x}")
    if identity and identity not in names:
        raise VersionError(
            f"the version was signed with a certificate of {', '.join(names) or 'nobody'}, and {identity} is the one "
            "that is trusted (RESUNET_TRUSTED_IDENTITY); it is not to be used"
        )
    if not may_sign(certificate):
        raise VersionError(
            f"the certificate of {who} that signed the version is not for signing code; it is not to be used"
        )
    return f"certificate of {who}"


def names_of(certificate: "Certificate") -> list[str]:
    """Mail addresses, URIs, hosts and common names that a certificate is for."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    found: list[str] = []
    try:
        more = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        for kind in (x509.RFC822Name, x509.UniformResourceIdentifier, x509.DNSName):
            found += more.get_values_for_type(kind)
    except x509.ExtensionNotFound:
        pass
    return found + [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def may_sign(certificate: "Certificate") -> bool:
    """Whether a certificate may sign code: by its extended usage, else by its usage."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    try:
        return ExtendedKeyUsageOID.CODE_SIGNING in (
            certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        )
    except x509.ExtensionNotFound:
        pass
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature)
    except x509.ExtensionNotFound:
        return False
