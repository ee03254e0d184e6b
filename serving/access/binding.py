"""Whether a server may listen where it was told to.

warning = check_binding("0.0.0.0", has_keys=store.configured, tls=False, allow_public=False)
"""

from resunet.errors import SettingsError
from serving.access.addresses import is_loopback


def check_binding(host: str, has_keys: bool, tls: bool, allow_public: bool) -> str | None:
    """Refuse to listen beyond this machine without keys.

    Only loopback addresses and `localhost` are of this machine alone. All else is public: every address (0.0.0.0, ::,
    an empty host), any other name, and what only looks like an address.

    Args:
        host: to listen on, as it is handed to the server.
        has_keys: callers need a key.
        tls: what is sent is encrypted.
        allow_public: listen without keys all the same.

    Returns:
        a sentence to warn with; None where all is well.

    Raises:
        SettingsError: public, without keys, and nobody said that this is meant.
    """
    if is_loopback(host):
        return None
    where = f"{host!r} can be reached from other machines" if host else "an empty host is every address of this machine"
    if not has_keys and not allow_public:
        raise SettingsError(
            f"{where}, and no API key is needed: make one with `python -m serving keys add NAME --scope predict`, "
            "listen on 127.0.0.1, or set RESUNET_GATEWAY_ALLOW_PUBLIC=1 where something else keeps strangers out"
        )
    if not has_keys:
        return f"{where}, and no API key is needed: whoever reaches it can predict, label and read metrics"
    if not tls:
        return (
            f"{where}, and keys and images travel unencrypted: whoever listens on the way has the keys, unless a "
            "certificate is given or a proxy in front encrypts"
        )
    return None
