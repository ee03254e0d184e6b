"""Whether HTTPS can be served with what was given: asked before anything is started.

check_certificate(settings.tls_certificate, settings.tls_key)
"""

import ssl
from pathlib import Path

from resunet.errors import SettingsError


def check_certificate(certificate: Path | None, key: Path | None) -> None:
    """Load a certificate chain and its private key.

    Args:
        certificate: PEM, the server's own certificate first; None: HTTP is served.
        key: PEM, not encrypted; None: it is in the same file.

    Raises:
        SettingsError: they cannot be read, do not belong together, or the key is encrypted.
    """
    if certificate is None:
        if key is not None:
            raise SettingsError("a private key is given, and no certificate: give --tls-certificate too")
        return

    def refuse() -> str:
        raise SettingsError(
            f"the private key of {certificate} is encrypted: give one that is not, readable by you alone"
        )

    for path in (certificate, *([key] if key else [])):
        if not path.is_file():
            raise SettingsError(f"{path} is no file: --tls-certificate and --tls-key name PEM files")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, refuse)
    except ssl.SSLError as error:
        files = f"{certificate} and {key}" if key else str(certificate)
        raise SettingsError(
            f"HTTPS cannot be served with {files} ({error.reason or 'not PEM'}): give the chain as PEM, the server's "
            "own certificate first, and the private key that belongs to it"
        ) from error
    except OSError as error:
        raise SettingsError(f"{certificate} or its key cannot be read ({error.strerror})") from error
