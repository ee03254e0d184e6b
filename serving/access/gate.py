"""Who asks, and whether they may: the one question before every request's work.

    gate = Gate(KeyStore(keys_path(home)), Limits(requests=Rate(10, 20)))
    caller = gate.admit(scope["headers"], "predict", scope["client"][0])
    gate.charge(caller, pixels)             # once the images' size is known, before they are decoded

The errors are in `serving.errors`, with their statuses, and `headers_of(error)` has what an answer adds to its headers.
Nothing here waits; a call takes some microseconds (some tens beside other processes) and may run on the event loop.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from serving.access.addresses import canonical, is_typed_here, network
from serving.access.credentials import token_in
from serving.access.keys import Clock, KeyStore, utc_now
from serving.access.limits import Limits
from serving.access.scopes import EVERYTHING, NOT_ADMIN, Scope, effective
from serving.errors import KEYS_MESSAGE, ForbiddenError, KeysError, LimitedError, UnauthorisedError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Caller:
    """Who a request is answered for.

    Attributes:
        id: of the key, or the address where no keys are configured: what rows and labels are bound to.
        name: of the key, or the address.
        scopes: all that is allowed; `admin` is spelt out.
        counted_as: whose rates are used up.
        by_key: who it is was proved by a key, and not only told by the connection.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    counted_as: str
    by_key: bool = False

    def require(self, scope: Scope) -> None:
        """See that something more is allowed.

        Raises:
            ForbiddenError: it is not.
        """
        if scope not in self.scopes:
            raise ForbiddenError(scope)


class Gate:
    """Lets callers in. Thread-safe.

    With no keys configured a caller is its address, and may do all but `admin`, which is then for requests that were
    typed on this machine. As soon as there is a key, every caller needs one.

    Failed authentications are counted by address, but shut nobody out who brings a valid key: behind one address there
    may be a whole clinic, and 256 random bits need no lock-out to stay unguessed.

    Args:
        store: of the keys; None: none are ever needed.
        limits: what a caller may use up.
        clock: gives aware times, for keys that expire.
    """

    def __init__(self, store: KeyStore | None, limits: Limits, clock: Clock = utc_now) -> None:
        self._store = store
        self._limits = limits
        self._clock = clock
        self._told = ""

    def admit(self, headers: Iterable[tuple[bytes, bytes]], scope: Scope, address: str | None) -> Caller:
        """Find out who asks, and take one request of theirs.

        Args:
            headers: raw, as ASGI gives them.
            scope: what is asked for.
            address: of the connection; None where there is none, as for a Unix socket.

        Raises:
            UnauthorisedError: no key, two keys, or one that is not valid.
            LimitedError: the caller has to wait, for its requests or for megapixels it owes; or too many requests
                without a valid key came from the address.
            ForbiddenError: the caller may not do this.
            KeysError: the file of keys cannot be used, and nobody is let in; the log says why.
        """
        headers, address = list(headers), canonical(address)
        try:
            caller = self._who(headers, address)
        except UnauthorisedError:
            if wait := self._limits.failure(network(address)):
                raise LimitedError("too many requests without a valid API key came from this address", wait) from None
            raise
        if wait := self._limits.request(caller.counted_as):
            raise LimitedError("this caller has used up what it may ask for at once", wait)
        caller.require(scope)
        return caller

    def charge(self, caller: Caller, pixels: int) -> None:
        """Take the pixels of a request's images, all together.

        Raises:
            LimitedError: the caller has used up its megapixels; nothing was taken.
        """
        if wait := self._limits.pixels(caller.counted_as, pixels):
            raise LimitedError("this caller has used up the pixels it may send at once", wait)

    def _who(self, headers: list[tuple[bytes, bytes]], address: str) -> Caller:
        try:
            if self._store is None or not self._store.configured:
                scopes = EVERYTHING if is_typed_here(headers, address) else NOT_ADMIN
                return Caller(address, address, scopes, network(address))
            token = token_in(headers)
            if token is None:
                raise UnauthorisedError("this server asks for an API key, and the request brings none")
            key = self._store.find(token, self._clock())
        except KeysError as error:
            self._tell(str(error))
            raise KeysError(KEYS_MESSAGE) from None
        if key is None:
            raise UnauthorisedError(
                "the API key is not known, was revoked or has expired: ask the server's operator for another",
                error="invalid_token",
            )
        return Caller(key.id, key.name, effective(key.scopes), key.id, by_key=True)

    def _tell(self, failure: str) -> None:
        # Once: it is the same for every request until somebody mends it.
        if failure != self._told:
            _log.error("nobody is let in: %s", failure)
            self._told = failure
