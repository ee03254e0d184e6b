"""Starting the gateway: `python -m serving up`.

    run(GatewaySettings.load(), ServingSettings.load(), wait=False)

What is live is loaded before the first request is taken, so that a port that answers is a version that answers.
"""

import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from records.settings import RecordsSettings
from resunet.errors import SettingsError
from serving.access.binding import check_binding
from serving.access.certificate import check_certificate
from serving.access.keys import KeyStore, keys_path
from serving.gateway.lead import Lead
from serving.gateway.log_lines import write_log
from serving.gateway.process import Process
from serving.gateway.settings import GatewaySettings
from serving.gateway.workers import Workers
from serving.handover import ended_cleanly
from serving.settings import ServingSettings

_log = logging.getLogger(__name__)


def run(settings: GatewaySettings, serving: ServingSettings, wait: bool) -> None:
    """Serve until a signal ends it.

    Args:
        settings: of the gateway.
        serving: of the versions that answer.
        wait: come up although nothing is live yet, and answer 503 until something is.

    Raises:
        SettingsError: a setting makes no sense, or the address is taken.
        StoreError: nothing is live, or the registry is away, and nothing served here before.
    """
    write_log(as_json(settings))
    records = RecordsSettings.load()
    keys = KeyStore(keys_path(records.home.absolute()))
    needs_keys = keys.configured
    if warning := check_binding(settings.host, needs_keys, settings.tls_certificate is not None, settings.allow_public):
        _log.warning("%s", warning)
    check_certificate(settings.tls_certificate, settings.tls_key)
    lead = Lead(settings, serving, as_json(settings))
    with ended_cleanly(), ExitStack() as ends:
        listener = ends.enter_context(_listening(settings.host, settings.port))
        if settings.workers == 1:
            process = Process(settings, serving, lead, needs_keys)
            ends.callback(process.close)
            lead.over(process, ends)
            lead.look(wait)
            lead.start()
            _log.info("requests are answered at %s", _address(listener, settings))
            process.serve(listener)
        else:
            workers = Workers(settings, serving, listener, keys)
            ends.callback(workers.close)
            lead.over(workers, ends)
            workers.start(lead, as_json(settings))
            lead.look(wait)
            workers.serve()
            lead.start()
            _log.info("requests are answered at %s", _address(listener, settings))
            workers.watch()


def as_json(settings: GatewaySettings) -> bool:
    """Whether the log is for machines."""
    return settings.log == "json" or (settings.log == "auto" and not sys.stderr.isatty())


def _address(listener: socket.socket, settings: GatewaySettings) -> str:
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.tls_certificate else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise SettingsError(
                f"{host} port {port} cannot be listened on ({error.strerror}): is another server there? Give --port "
                "another"
            ) from error
        yield listener
