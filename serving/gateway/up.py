"""Starting the gateway: `python -m serving up`.

    run(GatewaySettings.load(), ServingSettings.load(), wait=False)

What is live is loaded before the first request is taken, so that a port that answers is a version that answers.
"""

import logging
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from records.notify import Message, Messenger, NotifySettings, finish
from records.settings import RecordsSettings
from resunet.errors import SettingsError, StoreError
from serving.access.binding import check_binding
from serving.access.keys import KeyStore, keys_path
from serving.gateway.cache import VersionCache
from serving.gateway.log_lines import write_log
from serving.gateway.owner import Owner, OwnerSettings, Replicas
from serving.gateway.process import Process
from serving.gateway.releases import Registry
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
    has_keys = KeyStore(keys_path(records.home.absolute())).configured
    if warning := check_binding(settings.host, has_keys, settings.tls_certificate is not None, settings.allow_public):
        _log.warning("%s", warning)
    with ended_cleanly(), ExitStack() as ends:
        listener = ends.enter_context(_listening(settings.host, settings.port))
        ends.callback(finish)
        messenger = Messenger(NotifySettings.load().notify.get_secret_value())
        place = Registry(settings.model)
        cache = VersionCache(records.home.absolute() / "gateway" / "versions", serving.trust)

        def alert(subject: str, body: str) -> None:
            messenger.tell(Message(subject, body, "failure"))

        def owner_of(replicas: Replicas) -> Owner:
            how = OwnerSettings(settings.poll_seconds, settings.stop_when_archived, settings.keep_versions)
            return Owner(place, cache, replicas, how, alert)

        def first_look(owner: Owner) -> None:
            owner.look()
            health = owner.health()
            if health.serving is None and not wait:
                raise StoreError(
                    f"nothing can be served: {'; '.join(health.troubles)}. Promote a version, mend the cause, or come "
                    "up without one with --wait"
                )
            _log.info("%s answers at %s", health.serving or "no version yet", _address(listener, settings))

        if settings.workers == 1:
            _alone(settings, serving, listener, owner_of, first_look, ends)
        else:
            workers = Workers(settings, serving, listener)
            ends.callback(workers.close)
            owner = owner_of(workers)
            workers.start(owner.health, owner.announce, as_json(settings))
            first_look(owner)
            workers.serve()
            ends.callback(owner.stop)
            owner.start()
            workers.watch()


def _alone(
    settings: GatewaySettings,
    serving: ServingSettings,
    listener: socket.socket,
    owner_of: Callable[[Replicas], Owner],
    first_look: Callable[[Owner], None],
    ends: ExitStack,
) -> None:
    """The owner and what answers in one process."""
    owners: list[Owner] = []
    process = Process(settings, serving, health=lambda: owners[0].health(), announce=lambda: owners[0].announce())
    ends.callback(process.close)
    owner = owner_of(process.fleet)
    owners.append(owner)
    first_look(owner)
    ends.callback(owner.stop)
    owner.start()
    process.serve(listener)


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
